"""The user-mode network: everything as an ordinary user, with servers at addresses of the outer machine."""
import contextlib
import http.server
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
        vm = UserVm(kernel=self.kernel, options=["--net", net, *options.pop("more", [])], **options)
        self.vms.append(vm)
        vm.Boot(20)
        type(self).shared = vm
        return vm

    def Dhcp(self, vm):
        vm.Check(f"printf '{DHCP_SCRIPT}' > /tmp/dhcp && chmod +x /tmp/dhcp")
        vm.Check("mkdir -p /etc && ip link set lo up && ip link set eth0 up && "
                 "udhcpc -i eth0 -n -q -t 10 -T 1 -s /tmp/dhcp", 30)

    def Reaches(self, address, port, command="nc -w 5"):
        """Whether an echo server answers the guest."""
        status, output = self.Shared().Shell(f"echo hello | timeout 8 {command} {address} {port}", 20)
        return "hello" in output

    def ReachesUdp(self, address, port):
        return self.Reaches(address, port, "nc -u -w 2")


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
        output = self.Shared().Check("nslookup server.example", 20)
        self.assertIn(self.outside, output)
        status, _ = self.Shared().Shell("nslookup missing.example", 20)
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
        digest = images.Random(self.Path("data"), 32 * MIB, 7)
        with HttpServer(self.outside, self.directory) as port:
            vm = self.Shared()
            got = vm.Check(f"wget -q -O - http://{self.outside}:{port}/data | tee /tmp/data | sha256sum", 120).split()[0]
            self.assertEqual(got, digest)

    def test_7_a_forward(self):
        vm = self.Shared()
        vm.Check("mkdir -p /www && mv /tmp/data /www/data && httpd -p 80 -h /www")
        done = subprocess.run(["curl", "-sS", "--max-time", "60", "-o", self.Path("back"),
                               f"http://127.0.0.1:{self.forward}/data"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(images.Sha256(self.Path("back")), images.Sha256(self.Path("data")))

    def test_8_the_loopback_of_the_host_is_closed(self):
        server = Echo("127.0.0.1")
        self.assertFalse(self.Reaches("10.0.2.2", server.port))
        self.assertEqual(server.connections, 0)

    def test_9_a_killed_process(self):
        vm, server = self.Shared(), Echo(self.outside)
        vm.Check(f"(sleep 60 | nc {self.outside} {server.port}; echo ended > /tmp/ended) > /dev/null 2>&1 &")
        while not server.connections:
            pass
        pids = [pid for pid, command in vm.Processes() if "net-user[0]" in command]
        self.assertEqual(len(pids), 1)
        os.kill(pids[0], signal.SIGKILL)
        # New streams work at once, and so does the forward.
        self.assertTrue(self.Reaches(self.outside, server.port, "nc -w 20"))
        done = subprocess.run(["curl", "-sS", "--max-time", "60", "-o", self.Path("back"),
                               f"http://127.0.0.1:{self.forward}/data"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(images.Sha256(self.Path("back")), images.Sha256(self.Path("data")))
        vm.PowerOff()
