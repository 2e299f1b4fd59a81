"""Network interfaces over a tap: addresses, transfers both ways, offloads, several queues, rebinding."""
import hashlib
import os
import signal
import socket
import subprocess
import threading

import images
from e2e import E2eTest

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

    def BootWith(self, keys="", **options):
        images.CopyRoot(self.Path("root"))
        vm = self.Vm(options=["-r", self.Path("root"), "--net",
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

    def FromHost(self, mib):
        digest = images.Random(self.Path("data"), mib * MIB, 5)
        source = Source(self.host, self.Path("data"))
        got = self.Shared().Check(f"nc {self.host} {source.port} < /dev/null | sha256sum", 120).split()[0]
        self.assertEqual(got, digest)


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


class NetTwoPairs(TapTest):
    """Two pairs of queues."""

    ordered = True
    net = 20

    def test_1_two_pairs_are_used(self):
        vm = self.BootWith(",vq-pairs=2", mem=384, cpus=2)
        self.assertEqual(vm.Check("ls /sys/class/net/eth0/queues").split(), ["rx-0", "rx-1", "tx-0", "tx-1"])
        vm.Check("ethtool -L eth0 combined 2 2>/dev/null; ethtool -l eth0 | tail -n 2 | grep -q '2$'")

    def test_2_parallel_transfers(self):
        vm = self.Shared()
        server = subprocess.Popen(["iperf3", "-s", "-1", "-B", self.host], stdout=subprocess.DEVNULL)
        try:
            vm.Check(f"for i in 1 2 3 4 5; do iperf3 -c {self.host} -P 4 -n 16M > /tmp/iperf && break; sleep 1; done; "
                     "tail -n 4 /tmp/iperf | grep -q receiver", 120)
        finally:
            server.terminate()
            server.wait()
        self.ToHost(8)
        self.FromHost(8)

    def test_3_back_to_one_pair(self):
        self.Shared().Check("ethtool -L eth0 combined 1")
        self.FromHost(4)
        self.Shared().PowerOff()
