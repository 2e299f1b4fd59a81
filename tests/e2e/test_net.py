"""Network interfaces over a tap: addresses, transfers both ways, offloads, several queues, rebinding."""
import hashlib
import os
import signal
import socket
import subprocess
import threading

import images
import settings
from e2e import E2eTest, EachKernel
from guest_paths import PathOf
from kills import TIMES, KilledEvery

MIB = 1 << 20


class Sink(threading.Thread):
    """Takes one connection and hashes what comes."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.listener = socket.create_server((address, 0))
        self.port = self.listener.getsockname()[1]
        self.digest, self.bytes = None, 0
        self.start()

    def run(self):
        with self.listener:
            connection, _ = self.listener.accept()
        digest = hashlib.sha256()
        with connection:
            while data := connection.recv(MIB):
                digest.update(data)
                self.bytes += len(data)
        self.digest = digest.hexdigest()


class Source(threading.Thread):
    """Sends a file to one connection; at `pause_at` bytes sets `reached` and waits for `go_on`."""

    def __init__(self, address, path, pause_at=0):
        super().__init__(daemon=True)
        self.path, self.pause_at = path, pause_at
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.listener = socket.create_server((address, 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        with self.listener:
            connection, _ = self.listener.accept()
        with connection, open(self.path, "rb") as file:
            if self.pause_at:
                connection.sendall(file.read(self.pause_at))
                self.reached.set()
                self.go_on.wait()
            connection.sendall(file.read())


class TapTest(E2eTest):
    """What the tests of tap interfaces share. `net` is the last byte of the host's and the guest's network."""

    net = 0

    @property
    def host(self):
        return f"10.77.{self.net + (self.kernel == '6.1')}.1"

    @property
    def guest(self):
        return f"10.77.{self.net + (self.kernel == '6.1')}.2"

    def BootWith(self, keys="", words=(), **options):
        images.CopyRoot(self.Path("root"))
        vm = self.Vm(options=["-r", self.Path("root"), *words, "--net",
                              f"host-ip={self.host},netmask=255.255.255.0,mac=02:00:00:00:07:07{keys}"], **options)
        vm.Boot(20)
        type(self).shared = vm
        vm.Check(f"ip link set eth0 up && ip addr add {self.guest}/24 dev eth0")
        return vm

    def ToHost(self, mib):
        sink = Sink(self.host)
        sent = self.Shared().Check(f"dd if=/dev/urandom of=/tmp/sent bs=1M count={mib} 2>/dev/null; "
                                   f"nc {self.host} {sink.port} < /tmp/sent; sha256sum /tmp/sent", 120).split()[0]
        sink.join(60)
        self.assertEqual(sink.bytes, mib * MIB)
        self.assertEqual(sink.digest, sent)

    def Iperf3(self, more):
        server = subprocess.Popen(["iperf3", "-s", "-1", "-B", self.host], stdout=subprocess.DEVNULL)
        try:
            self.Shared().Check(f"for i in 1 2 3 4 5; do iperf3 -c {self.host} {more} -n 8M > /tmp/iperf && break; "
                                "sleep 1; done; tail -n 4 /tmp/iperf | grep -q receiver", 120)
        finally:
            server.terminate()
            server.wait()

    def FromHost(self, mib):
        digest = images.Random(self.Path("data"), mib * MIB, 5)
        source = Source(self.host, self.Path("data"))
        got = self.Shared().Check(f"nc {self.host} {source.port} < /dev/null | sha256sum", 120).split()[0]
        self.assertEqual(got, digest)


@EachKernel
class NetTap(TapTest):
    """One pair of queues, every offload."""

    ordered = True
    net = 10

    def test_1_link(self):
        vm = self.BootWith(mem=384)
        self.assertIn("02:00:00:00:07:07", vm.Check("cat /sys/class/net/eth0/address"))
        self.assertEqual(vm.Check("cat /sys/class/net/eth0/carrier").strip(), "1")

    def test_2_ping_both_ways(self):
        self.Shared().Check(f"ping -c 3 -W 5 {self.host}", 30)
        done = subprocess.run(["ping", "-c", "3", "-W", "20", self.guest], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_3_transfer_to_the_host(self):
        self.ToHost(32)

    def test_4_transfer_from_the_host(self):
        self.FromHost(32)

    def test_5_iperf3_both_ways_and_parallel(self):
        for more in ("", "-R", "-P 4", "-R -P 4"):
            with self.subTest(more):
                self.Iperf3(more)

    def test_5_link_down_and_up(self):
        vm = self.Shared()
        vm.Check("ip link set eth0 down && ip link set eth0 up")
        vm.Check(f"ip addr show eth0 | grep -q {self.guest} || ip addr add {self.guest}/24 dev eth0; "
                 f"ping -c 1 -W 10 {self.host}", 30)

    def test_5_without_offloads(self):
        self.Shared().Check("ethtool -K eth0 tx off rx off tso off gso off gro off 2>&1; true")
        self.ToHost(4)
        self.FromHost(4)

    def test_6_rebind_the_driver(self):
        vm = self.Shared()
        vm.Check("d=$(basename $(readlink -f /sys/class/net/eth0/device)); cd /sys/bus/virtio/drivers/virtio_net && "
                 "echo $d > unbind && echo $d > bind", 30)
        vm.Check(f"ip link set eth0 up && ip addr add {self.guest}/24 dev eth0 && ping -c 1 -W 5 {self.host}", 30)
        self.FromHost(2)

    def test_7_transfers_survive_a_killed_process(self):
        digest = images.Random(self.Path("data"), 32 * MIB, 6)
        source = Source(self.host, self.Path("data"), pause_at=8 * MIB)
        killer = threading.Thread(target=self.KillOnce, args=(source,), daemon=True)
        killer.start()
        got = self.Shared().Check(f"nc {self.host} {source.port} < /dev/null | sha256sum", 30).split()[0]
        killer.join()
        self.assertEqual(got, digest)
        self.assertIsNotNone(self.killed)

    def KillOnce(self, source):
        self.killed = None
        source.reached.wait()
        for pid, command in self.Shared().Processes():
            if "net[0]" in command:
                os.kill(pid, signal.SIGKILL)
                self.killed = pid
        source.go_on.set()

    def test_8_nothing_is_left(self):
        self.Shared().PowerOff()
        self.assertFalse([name for name in os.listdir("/sys/class/net") if name.startswith("vmtap")
                          and self.host in subprocess.run(["ip", "addr", "show", name], capture_output=True,
                                                          text=True).stdout])


class NetTorture(TapTest):
    """Transfers that check themselves beside iperf3, while the process is killed: ten times, CROSVM_TORTURE=N times as often."""

    ordered = True
    net = 40

    def test_1_killed_under_load(self):
        vm = self.BootWith(words=["--device-restarts", "100000"], mem=384)
        server = subprocess.Popen(["iperf3", "-s", "-1", "-B", self.host], stdout=subprocess.DEVNULL)
        try:
            vm.Check(f"for i in 1 2 3 4 5; do iperf3 -c {self.host} -P 2 -t 36000 --forceflush > /tmp/iperf 2>&1; sleep 1; done & "
                     "while ! grep -q ' sec ' /tmp/iperf; do sleep 0.5; done; pidof iperf3 > /tmp/pid", 60)
            with KilledEvery(vm, "net[0]", 0.7) as kills:
                while len(kills) < 10 * TIMES:
                    self.ToHost(4)
                    self.FromHost(4)
            # Its connections are those of the beginning.
            vm.Check("[ \"$(pidof iperf3)\" = \"$(cat /tmp/pid)\" ] && ! grep -i error /tmp/iperf")
        finally:
            server.kill()
            server.wait()

    def test_2_power_off(self):
        self.Shared().PowerOff()


class NetTwoPairs(TapTest):
    """Two pairs of queues."""

    ordered = True
    net = 20

    def test_1_two_pairs_are_used(self):
        vm = self.BootWith(",vq-pairs=2", mem=384, cpus=2)
        self.assertEqual(vm.Check("ls /sys/class/net/eth0/queues").split(), ["rx-0", "rx-1", "tx-0", "tx-1"])
        vm.Check("ethtool -L eth0 combined 2 2>/dev/null; ethtool -l eth0 | tail -n 2 | grep -q '2$'")

    def test_2_parallel_transfers(self):
        self.Iperf3("-P 4")
        self.Iperf3("-R -P 4")
        self.ToHost(8)
        self.FromHost(8)

    def test_3_back_to_one_pair(self):
        self.Shared().Check("ethtool -L eth0 combined 1")
        self.FromHost(4)
        self.Shared().PowerOff()


class NetJumbo(TapTest):
    """Frames of 9,000 bytes over a tap that exists."""

    ordered = True
    net = 30

    def test_1_large_frames(self):
        name = "e2ejumbo"
        subprocess.run(["ip", "tuntap", "add", "mode", "tap", "name", name], check=True)
        self.addClassCleanup(subprocess.run, ["ip", "link", "del", name])
        for words in (["link", "set", name, "mtu", "9000", "up"], ["addr", "add", f"{self.host}/24", "dev", name]):
            subprocess.run(["ip", *words], check=True)
        images.CopyRoot(self.Path("root"))
        vm = self.Vm(options=["-r", self.Path("root"), "--net", f"tap-name={name}"], mem=384)
        vm.Boot(20)
        type(self).shared = vm
        self.assertEqual(vm.Check("cat /sys/class/net/eth0/mtu").strip(), "9000")
        vm.Check(f"ip link set eth0 up && ip addr add {self.guest}/24 dev eth0")
        vm.Check(f"ping -c 2 -W 10 -M do -s 8972 {self.host}", 30)

    def test_2_transfers(self):
        self.ToHost(8)
        self.FromHost(8)
        self.Shared().Check("ethtool -K eth0 tx off rx off tso off gso off gro off 2>&1; true")
        self.ToHost(2)
        self.FromHost(2)
        self.Shared().PowerOff()


class NetErrors(E2eTest):
    """A tap that cannot be had: what is missing, and what does without."""

    def Refused(self, net, *prefix):
        done = subprocess.run([*prefix, settings.binary, "run", "--net", net, PathOf("vmlinux", self.kernel)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=self.directory)
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr

    def test_without_the_right_to_make_one(self):
        gid = os.stat("/dev/kvm").st_gid
        text = self.Refused("host-ip=10.77.99.1,netmask=255.255.255.0", "setpriv", "--reuid=1000", "--regid=1000",
                            f"--groups={gid}", "--inh-caps=-all", "--bounding-set=-all")
        self.assertIn("CAP_NET_ADMIN", text)
        self.assertIn("--net user", text)

    def test_a_name_that_is_in_use(self):
        name = "e2etaken"
        subprocess.run(["ip", "tuntap", "add", "mode", "tap", "name", name], check=True)
        self.addCleanup(subprocess.run, ["ip", "link", "del", name])
        import fcntl
        import struct
        with open("/dev/net/tun", "r+b", buffering=0) as holder:
            fcntl.ioctl(holder, 0x400454ca, struct.pack("16sH22x", name.encode(), 0x5002))  # TUNSETIFF: tap, no info, header
            self.assertIn("is in use by another process", self.Refused(f"tap-name={name}"))

    def test_a_name_that_is_not_there(self):
        self.assertIn("e2emissing", self.Refused("tap-name=e2emissing"))
