"""The user-mode network: everything as an ordinary user, with servers at addresses of the outer machine."""
import contextlib
import http.server
import json
import os
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import threading

import images
import settings
from e2e import E2eTest, EachKernel
from vm import Vm

USER = 1000
MIB = 1 << 20
# What `udhcpc` runs, as printf takes it; busybox brings none.
DHCP_SCRIPT = "; ".join([
    '#!/bin/sh\\n[ "$1" = bound ] || exit 0',
    "ip addr add $ip/$mask dev $interface",
    '[ -n "$router" ] && ip route add default via $router',
    "for one in $dns; do echo nameserver $one; done > /etc/resolv.conf\\n"])


class UserVm(Vm):
    """A VM of an ordinary user, who has nothing but the right to use KVM."""

    def Command(self):
        return ["setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={os.stat('/dev/kvm').st_gid}", "--inh-caps=-all",
                "--bounding-set=-all", *super().Command()]

    def Start(self):
        os.chown(self.directory, USER, USER)
        super().Start()


class Echo(socketserver.ThreadingTCPServer):
    """Sends back what comes, until the end of it; counts connections."""

    allow_reuse_address = True
    daemon_threads = True

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.server.connections += 1
            while data := self.request.recv(1 << 16):
                self.request.sendall(data)

    def __init__(self, address, port=0):
        self.connections = 0
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), self.Handler)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()


class UdpEcho(threading.Thread):
    def __init__(self, address, port=0):
        super().__init__(daemon=True)
        self.datagrams = 0
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, port))
        self.port = self.socket.getsockname()[1]
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                data, peer = self.socket.recvfrom(1 << 16)
                self.datagrams += 1
                self.socket.sendto(data, peer)


class Resolver(threading.Thread):
    """A DNS server of fixed answers: {name: [address]}; everything else does not exist."""

    def __init__(self, address, names):
        super().__init__(daemon=True)
        self.names, self.asked = dict(names), []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                query, peer = self.socket.recvfrom(4096)
                self.socket.sendto(self.Answer(query), peer)

    def Answer(self, query):
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        name, kind = ".".join(labels).lower(), struct.unpack_from(">H", query, at + 1)[0]
        self.asked.append((name, kind))
        question = query[12:at + 5]
        family = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
        records = [socket.inet_pton(family, text) for text in self.names.get(name, ())
                   if family and (":" in text) == (family == socket.AF_INET6)]
        body = b"".join(struct.pack(">HHHIH", 0xc00c, kind, 1, 60, len(data)) + data for data in records)
        code = 0 if name in self.names else 3
        return query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records), 0, 0) + question + body


class UserNetTest(E2eTest):
    """What the tests share. `net`: the part of the addresses that is this class' alone."""

    net = 0
    ordered = True

    @property
    def number(self):
        return self.net + (self.kernel == "6.1")

    def Outside(self, host):
        """An address of the outer machine that is no loopback address."""
        address = f"10.88.{self.number}.{host}"
        subprocess.run(["ip", "addr", "replace", f"{address}/32", "dev", "lo"], check=True)
        return address

    def Outside6(self, host):
        address = f"2001:db8:{self.number}::{host}"
        subprocess.run(["ip", "-6", "addr", "replace", f"{address}/128", "dev", "lo", "nodad"], check=True)
        return address

    def BootWith(self, net, **options):
        os.chmod(settings.work_dir, 0o755)
        images.CopyRoot(self.Path("root"))
        os.chmod(self.directory, 0o755)
        os.chown(self.Path("root"), USER, USER)
        vm = UserVm(kernel=self.kernel, options=["--rwroot", self.Path("root"), "--net", net], mem=384, **options)
        self.vms.append(vm)
        vm.Boot(20)
        type(self).shared = vm
        return vm

    def Dhcp(self, vm):
        vm.Check(f"printf '{DHCP_SCRIPT}' > /tmp/dhcp && chmod +x /tmp/dhcp")
        vm.Check("mkdir -p /etc && ip link set lo up && ip link set eth0 up && "
                 "busybox udhcpc -i eth0 -n -q -t 10 -T 1 -s /tmp/dhcp", 30)

    def Reaches(self, address, port, protocol="TCP", more="", wait=5):
        """Whether an echo server answers the guest."""
        place = f"[{address}]" if ":" in address else address
        kind = protocol + ("6" if ":" in address else "")
        end = f",connect-timeout={wait}" if protocol == "TCP" else ""
        status, output = self.Shared().Shell(f"echo hello | timeout {wait + 3} socat -t {wait if end else 2} - "
                                             f"{kind}:{place}:{port}{end}{more} 2>/dev/null", wait + 10)
        return "hello" in output

    def ReachesUdp(self, address, port):
        return self.Reaches(address, port, "UDP")


@contextlib.contextmanager
def HttpServer(address, directory):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=directory)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer((address, 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@EachKernel
class NetUser(UserNetTest):
    """No restriction: address, names, transfers, forwards, a killed process."""

    net = 10

    def test_1_dhcp(self):
        type(self).outside = self.Outside(1)
        type(self).resolver = Resolver(self.Outside(53), {"server.example": [self.outside]})
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            type(self).forward = probe.getsockname()[1]
        vm = self.BootWith(f"user,dns={self.Outside(53)},hostfwd=tcp:127.0.0.1:{self.forward}-:80,mac=02:00:00:00:08:08",
                           socket=True)
        self.Dhcp(vm)
        self.assertIn("10.0.2.15/24", vm.Check("ip addr show eth0"))
        self.assertIn("default via 10.0.2.2", vm.Check("ip route"))
        self.assertIn("02:00:00:00:08:08", vm.Check("cat /sys/class/net/eth0/address"))

    def test_2_ping_the_gateway(self):
        self.Shared().Check("ping -c 3 -W 5 10.0.2.2", 30)

    def test_3_names(self):
        output = self.Shared().Check("busybox nslookup server.example", 20)
        self.assertIn(self.outside, output)
        status, _ = self.Shared().Shell("busybox nslookup missing.example", 20)
        self.assertNotEqual(status, 0)

    def test_4_tcp_and_udp(self):
        server, datagrams = Echo(self.outside), UdpEcho(self.outside)
        self.assertTrue(self.Reaches(self.outside, server.port))
        self.assertTrue(self.Reaches("server.example", server.port))
        self.assertTrue(self.ReachesUdp(self.outside, datagrams.port))

    def test_5_ipv6(self):
        vm = self.Shared()
        vm.Check("for i in $(seq 100); do ip -6 addr show eth0 | grep -q 'scope global' && break; sleep 0.1; done; "
                 "ip -6 addr show eth0 | grep 'scope global'", 30)
        server = Echo(self.Outside6(1))
        self.assertTrue(self.Reaches(self.Outside6(1), server.port))
        vm.Check("ping -6 -c 2 -W 5 fd00::2", 30)

    def test_6_transfers(self):
        digest = images.Random(self.Path("data"), 8 * MIB, 7)
        with HttpServer(self.outside, self.directory) as port:
            vm = self.Shared()
            got = vm.Check(f"busybox wget -q -O - http://{self.outside}:{port}/data | tee /tmp/data | sha256sum", 120).split()[0]
            self.assertEqual(got, digest)

    def test_7_a_forward(self):
        vm = self.Shared()
        vm.Check("mkdir -p /tmp/www && mv /tmp/data /tmp/www/data && busybox httpd -p 80 -h /tmp/www")
        done = subprocess.run(["curl", "-sS", "--max-time", "60", "-o", self.Path("back"),
                               f"http://127.0.0.1:{self.forward}/data"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(images.Sha256(self.Path("back")), images.Sha256(self.Path("data")))

    def test_8_the_control_socket(self):
        vm = self.Shared()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        text = f"tcp:127.0.0.1:{port}-10.0.2.15:80"
        vm.Control("net", "forward", "0", f"tcp::{port}-:80")
        net = json.loads(vm.Control("net", "--json"))["interfaces"][0]
        self.assertEqual((net["name"], net["kind"], net["link"], net["mac"]),
                         ("net-user[0]", "user", "up", "02:00:00:00:08:08"))
        self.assertEqual(net["forwards"], [f"tcp:127.0.0.1:{self.forward}-10.0.2.15:80", text])
        self.assertGreater(net["pairs"][0]["rx_frames"], 100)
        self.assertIn(f"forward {text}", vm.Control("net"))
        curl = ["curl", "-sS", "--max-time", "30", "-o", "/dev/null", f"http://127.0.0.1:{port}/data"]
        self.assertEqual(subprocess.run(curl, capture_output=True).returncode, 0)
        vm.Control("net", "unforward", "0", text)
        self.assertEqual(subprocess.run(curl, capture_output=True).returncode, 7)
        vm.Control("net", "unforward", "0", text, expected=1)
        vm.Control("net", "forward", "1", text, expected=1)

    def test_8_the_loopback_of_the_host_is_closed(self):
        server = Echo("127.0.0.1")
        self.assertFalse(self.Reaches("10.0.2.2", server.port))
        self.assertEqual(server.connections, 0)

    def test_9_a_killed_process(self):
        vm, server = self.Shared(), Echo(self.outside)
        vm.Check(f"(sleep 60 | socat - TCP:{self.outside}:{server.port}; echo ended > /tmp/ended) > /dev/null 2>&1 &")
        while not server.connections:
            pass
        pids = [pid for pid, command in vm.Processes() if "net-user[0]" in command]
        self.assertEqual(len(pids), 1)
        os.kill(pids[0], signal.SIGKILL)
        # New streams work at once, and so does the forward.
        self.assertTrue(self.Reaches(self.outside, server.port, wait=20))
        done = subprocess.run(["curl", "-sS", "--max-time", "60", "-o", self.Path("back"),
                               f"http://127.0.0.1:{self.forward}/data"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(images.Sha256(self.Path("back")), images.Sha256(self.Path("data")))
        vm.PowerOff()


class Allowing(UserNetTest):
    """What the tests of `allow` share: an allowed and a forbidden place, servers at each."""

    PORT = 7000

    def Servers(self):
        cls = type(self)
        cls.good, cls.other, cls.named = self.Outside(1), self.Outside(2), self.Outside(3)
        cls.other6 = self.Outside6(2)
        cls.link = f"169.254.{self.number}.1"
        subprocess.run(["ip", "addr", "replace", f"{cls.link}/32", "dev", "lo"], check=True)
        cls.resolver = Resolver(self.Outside(53), {
            "good.example": [cls.good, cls.other6], "evil.example": [cls.other], "other.evil.example": [cls.other],
            "rebind.example": ["127.0.0.1", cls.link, "10.0.2.2", "::1", f"::ffff:{cls.other}"]})
        cls.servers = {(address, port): Echo(address, port) for address, port in (
            (cls.good, self.PORT), (cls.good, self.PORT + 1), (cls.other, self.PORT), (cls.named, self.PORT),
            (cls.other6, self.PORT + 1), (cls.link, self.PORT), ("127.0.0.1", self.PORT + self.number))}
        cls.datagrams = {address: UdpEcho(address, self.PORT) for address in (cls.named, cls.other, cls.link)}

    def Connections(self):
        return {place: server.connections for place, server in self.servers.items()}


@EachKernel
class NetUserAllow(Allowing):
    """`allow` opens what it names, and no way around it leads anywhere else."""

    net = 20

    def test_1_boot(self):
        self.Servers()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            type(self).forward = probe.getsockname()[1]
        vm = self.BootWith(f"user,dns={self.Outside(53)},allow=good.example:{self.PORT},allow=rebind.example,"
                           f"allow={self.named}:{self.PORT},hostfwd=tcp:127.0.0.1:{self.forward}-:80,"
                           f"hostfwd=udp:127.0.0.1:{self.forward}-:81")
        self.Dhcp(vm)
        vm.Check("for i in $(seq 100); do ip -6 addr show eth0 | grep -q 'scope global' && break; sleep 0.1; done")

    def test_2_a_name_is_closed_until_it_is_asked_for(self):
        self.assertFalse(self.Reaches(self.good, self.PORT))
        self.assertTrue(self.Reaches("good.example", self.PORT))
        self.assertTrue(self.Reaches(self.good, self.PORT))

    def test_3_an_address(self):
        self.assertTrue(self.Reaches(self.named, self.PORT))
        self.assertTrue(self.ReachesUdp(self.named, self.PORT))

    def test_4_forwards(self):
        vm = self.Shared()
        vm.Check("mkdir -p /tmp/www && echo content > /tmp/www/file && busybox httpd -p 80 -h /tmp/www && "
                 "(socat UDP-LISTEN:81,fork EXEC:/bin/cat > /dev/null 2>&1 &)")
        done = subprocess.run(["curl", "-sS", "--max-time", "30", f"http://127.0.0.1:{self.forward}/file"],
                              capture_output=True, text=True)
        self.assertEqual(done.stdout, "content\n", done.stderr)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(2)
            client.connect(("127.0.0.1", self.forward))
            for attempt in range(10):
                client.send(b"datagram")
                with contextlib.suppress(socket.timeout, ConnectionRefusedError):
                    self.assertEqual(client.recv(100), b"datagram")
                    return
        self.fail("no datagram came back")

    def test_5_bypasses(self):
        vm = self.Shared()
        before, asked = self.Connections(), len(self.resolver.asked)
        datagrams = {address: echo.datagrams for address, echo in self.datagrams.items()}
        self.assertTrue(self.Reaches("good.example", self.PORT))
        attempts = {
            "another port of an allowed name": (self.good, self.PORT + 1),
            "a raw address": (self.other, self.PORT),
            "an IPv6 address of an allowed name, another port": (self.other6, self.PORT + 1),
            "a name that is not allowed": ("evil.example", self.PORT),
            "a name below one that is not allowed": ("other.evil.example", self.PORT),
            "an allowed name of closed addresses": ("rebind.example", self.PORT),
            "the gateway": ("10.0.2.2", self.PORT + self.number),
            "the gateway by IPv6": ("fd00::2", self.PORT + self.number),
            "a link-local address": (self.link, self.PORT),
            "the metadata service": ("169.254.169.254", 80),
            "an address of NAT64": (f"64:ff9b::{self.other}", self.PORT),
            "the resolver by TCP": (self.Outside(53), 53),
            "the name server by TCP": ("10.0.2.3", 53),
        }
        for what, (address, port) in attempts.items():
            with self.subTest(what):
                self.assertFalse(self.Reaches(address, port, wait=3))
        with self.subTest("from the forwarded port"):
            vm.Check("killall busybox httpd 2>/dev/null; true")
            self.assertFalse(self.Reaches(self.other, self.PORT, more=",sourceport=80,reuseaddr", wait=3))
        for what, address in {"a datagram": self.other, "a datagram to a link-local address": self.link}.items():
            with self.subTest(what):
                self.assertFalse(self.ReachesUdp(address, self.PORT))
        with self.subTest("a datagram in fragments"):
            vm.Check("ip link set eth0 mtu 1280")
            vm.Shell(f"head -c 3000 /dev/zero | socat -t 1 - UDP:{self.other}:{self.PORT}", 20)
            vm.Check("ip link set eth0 mtu 16384")
        with self.subTest("another resolver"):
            self.assertNotEqual(vm.Shell(f"busybox nslookup good.example {self.Outside(53)}", 30)[0], 0)
        with self.subTest("another kind of record"):
            vm.Shell("busybox nslookup -type=txt good.example", 30)
        with self.subTest("echo requests"):
            self.assertNotEqual(vm.Shell(f"ping -c 1 -W 2 {self.other}", 20)[0], 0)
            self.assertNotEqual(vm.Shell(f"ping -c 1 -W 2 {self.good}", 20)[0], 0)
        before[(self.good, self.PORT)] += 1
        self.assertEqual(self.Connections(), before)
        self.assertEqual({address: echo.datagrams for address, echo in self.datagrams.items()}, datagrams)
        names = {(name, kind) for name, kind in self.resolver.asked[asked:]}
        self.assertLessEqual(names, {(name, kind) for name in ("good.example", "rebind.example") for kind in (1, 28)})

    def test_6_what_is_allowed_still_works(self):
        self.assertTrue(self.Reaches("good.example", self.PORT))
        self.assertTrue(self.Reaches(self.named, self.PORT))
        self.Shared().PowerOff()


class NetUserRestrict(Allowing):
    """`restrict=on` cuts everything off but a forward."""

    net = 30

    def test_1_nothing_is_reached(self):
        self.Servers()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            type(self).forward = probe.getsockname()[1]
        vm = self.BootWith(f"user,dns={self.Outside(53)},restrict=on,hostfwd=tcp:127.0.0.1:{self.forward}-:80")
        self.Dhcp(vm)
        for address, port in list(self.servers) + [("good.example", self.PORT), ("10.0.2.2", self.PORT + self.number)]:
            with self.subTest(f"{address} {port}"):
                self.assertFalse(self.Reaches(address, port, wait=3))
        for address in self.datagrams:
            with self.subTest(f"datagram to {address}"):
                self.assertFalse(self.ReachesUdp(address, self.PORT))
        self.assertEqual(set(self.Connections().values()), {0})
        self.assertEqual([echo.datagrams for echo in self.datagrams.values()], [0, 0, 0])
        self.assertEqual(self.resolver.asked, [])

    def test_2_a_forward(self):
        vm = self.Shared()
        vm.Check("mkdir -p /tmp/www && echo content > /tmp/www/file && busybox httpd -p 80 -h /tmp/www")
        done = subprocess.run(["curl", "-sS", "--max-time", "30", f"http://127.0.0.1:{self.forward}/file"],
                              capture_output=True, text=True)
        self.assertEqual(done.stdout, "content\n", done.stderr)
        vm.PowerOff()


class NetUserErrors(UserNetTest):
    """What cannot be had is refused before the guest starts, with a remedy."""

    net = 40

    def Refused(self, net):
        return self.RunCrosvm("run", "--net", net, self.Kernel(), status=1)

    def Kernel(self):
        from guest_paths import PathOf
        return PathOf("vmlinux", self.kernel)

    def test_a_port_that_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            text = self.Refused(f"user,hostfwd=tcp:127.0.0.1:{port}-:80")
        self.assertIn(f"hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:80", text)
        self.assertIn("choose another port", text)

    def test_an_address_that_is_not_the_host_s(self):
        text = self.Refused("user,hostfwd=tcp:192.0.2.77:7777-:80")
        self.assertIn("the host has no such address", text)

    def test_words_that_make_no_sense(self):
        for net, words in {"user,hostfwd=tcp:80": "is not a forward such as", "user,allow=a..b": "is not a destination such as",
                           "user,vq-pairs=2": "one pair of queues", "tap-name=x,allow=a.example": "allow needs user"}.items():
            with self.subTest(net):
                text = self.RunCrosvm("run", "--net", net, self.Kernel(), status=35)
                self.assertIn(words, text)
