"""Network interfaces over vhost-user: QEMU drives ours, our VM uses one that another process serves."""
import hashlib
import socket
import threading

import settings
from e2e import E2eTest
from test_peers import Peer, QemuWith

MIB = 1 << 20


class Sink(threading.Thread):
    """Takes one connection and hashes what comes."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.listener = socket.create_server((address, 0))
        self.port, self.digest = self.listener.getsockname()[1], None
        self.start()

    def run(self):
        with self.listener:
            connection, _ = self.listener.accept()
        digest = hashlib.sha256()
        with connection:
            while data := connection.recv(MIB):
                digest.update(data)
        self.digest = digest.hexdigest()


class NetPeers(E2eTest):
    """`crosvm device net` and `device net-user` with other front ends than the VMM that started them."""

    def Device(self, *words):
        path = self.Path(f"{self._testMethodName}.sock")
        peer = Peer([settings.binary, "device", words[0], "--socket-path", path, words[1]], [path])
        self.addCleanup(peer.Close)
        return path

    def CheckTap(self, vm, net):
        """Both ways over a tap whose host address is 10.79.NET.1."""
        vm.Check(f"ip link set eth0 up && ip addr add 10.79.{net}.2/24 dev eth0 && ping -c 2 -W 5 10.79.{net}.1", 30)
        sink = Sink(f"10.79.{net}.1")
        sent = vm.Check(f"dd if=/dev/urandom of=/tmp/sent bs=1M count=8 2>/dev/null; nc 10.79.{net}.1 {sink.port} "
                        "< /tmp/sent; sha256sum /tmp/sent", 60).split()[0]
        sink.join(30)
        self.assertEqual(sink.digest, sent)

    def test_qemu_drives_ours(self):
        path = self.Device("net", "host-ip=10.79.1.1,netmask=255.255.255.0")
        vm = self.Vm()
        vm.Command = lambda: QemuWith(["-chardev", f"socket,id=n,path={path}", "-netdev", "vhost-user,id=v,chardev=n",
                                       "-device", "virtio-net-pci,netdev=v,mac=02:00:00:00:09:01"])
        vm.Boot(20)
        self.assertIn("02:00:00:00:09:01", vm.Check("cat /sys/class/net/eth0/address"))
        self.CheckTap(vm, 1)
        vm.PowerOff()

    def test_ours_drives_another_process(self):
        path = self.Device("net", "host-ip=10.79.2.1,netmask=255.255.255.0,mac=02:00:00:00:09:02")
        vm = self.Vm(options=["--vhost-user-net", path], socket=True)
        vm.Boot(20)
        self.assertIn("02:00:00:00:09:02", vm.Check("cat /sys/class/net/eth0/address"))
        self.assertIn("vhost-user-net", vm.Control("net"))
        self.CheckTap(vm, 2)
        vm.PowerOff()

    def test_the_user_mode_network_in_another_process(self):
        path = self.Device("net-user", "user")
        vm = self.Vm(options=["--vhost-user-net", path])
        vm.Boot(20)
        vm.Check("ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && ping -c 2 -W 5 10.0.2.2", 30)
        vm.PowerOff()
