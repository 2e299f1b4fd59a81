"""Devices that the host's kernel serves: vhost-vsock (--cid) and vhost-net (--net …,vhost-net)."""
import hashlib
import json
import socket
import threading

import images
import settings
from e2e import E2eTest, EachKernel
from test_net import TapTest
from vsock_peers import Echo, InstallPeer, MakePeerDisk, Server

GUEST = 2000


def VsockListener():
    """A listening socket of the host's kernel and its port."""
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
    listener.listen(64)
    return listener, listener.getsockname()[1]


@EachKernel
class VhostVsock(E2eTest):
    """Virtual sockets by the host's kernel; Python's AF_VSOCK is the host's peer."""

    ordered = True

    @property
    def cid(self):
        return 40 + (self.kernel == "6.1")

    def Dial(self):
        connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        connection.settimeout(20 * settings.time_scale)
        connection.connect((self.cid, GUEST))
        return connection

    def Serve(self, serve):
        listener, port = VsockListener()
        server = Server(listener, serve)
        self.addCleanup(server.Close)
        return port

    def test_1_boots(self):
        MakePeerDisk(self.Path("peer"))
        vm = self.Vm(socket=True, options=["--cid", str(self.cid)], disks=[images.Disk(self.Path("peer"))])
        vm.Boot(20)
        type(self).shared = vm
        InstallPeer(vm, "vda")
        vm.Check(f"(/tmp/vsock_peer echo {GUEST} > /tmp/echo.log 2>&1 &); "
                 "while ! grep -q serving /tmp/echo.log; do sleep 0.1; done")
        kernel = [p for p in json.loads(vm.Control("ps", "--json"))["processes"] if p["name"] == "vhost-vsock[0]"]
        self.assertEqual([(p["state"], p["pid"]) for p in kernel], [("running", 0)])

    def test_2_streams_of_the_guest(self):
        port = self.Serve(Echo)
        self.assertIn("200 streams", self.Shared().Check(f"/tmp/vsock_peer churn {port} 200", 60))
        self.assertIn("64 streams", self.Shared().Check(f"/tmp/vsock_peer parallel {port} 64 16384", 60))

    def test_3_streams_of_the_host(self):
        data = hashlib.sha512(b"seed").digest() * 4096
        with self.Dial() as connection:
            writer = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
            writer.start()
            back = b""
            while part := connection.recv(1 << 16):
                back += part
            writer.join()
        self.assertEqual(back, data)

    def test_4_half_closed(self):
        def Answer(connection):
            digest = hashlib.sha256()
            while part := connection.recv(1 << 16):
                digest.update(part)
            connection.sendall(digest.hexdigest().encode())

        port = self.Serve(Answer)
        output = self.Shared().Check("dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null; sha256sum /tmp/data; "
                                     f"/tmp/vsock_peer pipe {port} < /tmp/data", 60)
        self.assertEqual(output.split()[0], output.split()[-1])

    def test_5_the_cid_is_taken(self):
        output = self.RunCrosvm("run", "--cid", str(self.cid), self.Path("peer"), status=1)
        self.assertIn(f"--cid {self.cid}: another VM of this host has it", output)

    def test_6_suspended(self):
        vm = self.Shared()
        port = self.Serve(Echo)
        with self.Dial() as connection:
            vm.Control("suspend")
            vm.Control("resume")
            connection.sendall(b"awake")
            self.assertEqual(connection.recv(5), b"awake")
        self.assertIn("10 streams", vm.Check(f"/tmp/vsock_peer churn {port} 10", 30))

    def test_7_rebind_the_driver(self):
        vm = self.Shared()
        vm.Check("pkill vsock_peer; cd /sys/bus/virtio/drivers/vmw_vsock_virtio_transport && d=$(ls -d virtio*) && "
                 "echo $d > unbind && echo $d > bind", 30)
        port = self.Serve(Echo)
        self.assertIn("10 streams", vm.Check(f"/tmp/vsock_peer churn {port} 10", 30))

    def test_8_powers_off(self):
        self.Shared().PowerOff()


class VhostErrors(E2eTest):
    """What goes wrong before a guest runs."""

    def test_bad_ids(self):
        for cid in ("0", "2", "4294967295", "4294967296", "x"):
            self.assertIn("cid", self.RunCrosvm("run", "--cid", cid, self.directory, status=35))

    def test_no_device(self):
        open(self.Path("kernel"), "wb").close()
        output = self.RunCrosvm("run", "--cid", "50", "--vhost-vsock-device", "/nowhere/vhost-vsock",
                                self.Path("kernel"), status=1)
        self.assertIn("modprobe vhost_vsock", output)
        self.assertIn("--vsock cid=50,path=FOLDER", output)
        output = self.RunCrosvm("run", "--net", "host-ip=10.77.99.1,netmask=255.255.255.0,vhost-net",
                                "--vhost-net-device", "/nowhere/vhost-net", self.Path("kernel"), status=1)
        self.assertIn("modprobe vhost_net", output)

    def test_more_pairs_than_the_kernel_serves(self):
        open(self.Path("kernel"), "wb").close()
        output = self.RunCrosvm("run", "--net", "host-ip=10.77.98.1,netmask=255.255.255.0,vhost-net,vq-pairs=2",
                                self.Path("kernel"), status=1)
        self.assertIn("leave out vq-pairs", output)


@EachKernel
class VhostNet(TapTest):
    """A tap interface whose frames the host's kernel moves."""

    ordered = True
    net = 60

    def test_1_link(self):
        vm = self.BootWith(",vhost-net", mem=384)
        self.assertIn("02:00:00:00:07:07", vm.Check("cat /sys/class/net/eth0/address"))
        self.assertEqual(vm.Check("cat /sys/class/net/eth0/carrier").strip(), "1")
        vm.Check(f"ping -c 3 -W 5 {self.host}", 30)

    def test_2_transfers(self):
        self.ToHost(16)
        self.FromHost(16)

    def test_3_without_offloads(self):
        self.Shared().Check("ethtool -K eth0 tx off rx off tso off gso off gro off 2>&1; true")
        self.ToHost(4)
        self.FromHost(4)

    def test_4_rebind_the_driver(self):
        vm = self.Shared()
        vm.Check("d=$(basename $(readlink -f /sys/class/net/eth0/device)); cd /sys/bus/virtio/drivers/virtio_net && "
                 "echo $d > unbind && echo $d > bind", 30)
        vm.Check(f"ip link set eth0 up && ip addr add {self.guest}/24 dev eth0 && ping -c 1 -W 5 {self.host}", 30)
        self.FromHost(2)

    def test_5_powers_off(self):
        self.Shared().PowerOff()
