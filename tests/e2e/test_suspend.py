"""Suspended and resumed in the middle of everything: what the guest has open, mounted and under way goes on."""
import os

import images
from e2e import E2eTest
from test_net import MIB, Source

HOST, GUEST = "10.77.90.1", "10.77.90.2"
# The root disk's programs; see test_p9.py.
TOOLS = ("mount -t tmpfs none /tmp && mount --make-shared /tmp && mkdir /r && mount -t ext4 -o ro /dev/vda /r && "
         "mount --bind /tmp /r/tmp && mount --bind /dev /r/dev && mount --bind /proc /r/proc")
FIO = ("chroot /r fio --name=verify --filename=/dev/vdb --rw=randrw --bs=4k-32k --size=24M --io_size=48M --direct=1 "
       "--ioengine=libaio --iodepth=32 --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_backlog=256 --randseed=5 "
       "--output=/tmp/fio.log")
# Reads a line, and the rest of the file when told to go on.
READER = "(read first; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo $first; cat) < /tmp/{tag}/open > /tmp/{tag}.out 2>&1 &"


class SuspendUnderLoad(E2eTest):
    """A disk under fio, a share of either kind with an open file, a download through a changed MAC address."""

    kernel = "6.12-full"  # has 9p
    ordered = True

    def test_1_boots(self):
        images.CopyRoot(self.Path("root"))
        images.Sparse(self.Path("target"), 32 * MIB)
        options = ["--disk", self.Path("root"), "--net",
                   f"host-ip={HOST},netmask=255.255.255.0,mac=02:00:00:00:07:07"]
        for tag, keys in (("fs", "type=fs:cache=never"), ("p9", "type=9p")):
            os.makedirs(self.Path(tag))
            with open(os.path.join(self.Path(tag), "open"), "w", encoding="ascii") as file:
                file.write("first\n" + "rest\n" * 100)
            options += ["--shared-dir", f"{self.Path(tag)}:{tag}:{keys}"]
        type(self).shared = vm = self.Vm(options=options, mem=384, socket=True,
                                         disks=[images.Disk(self.Path("target"), writable=True)])
        vm.Boot(30)
        vm.Check(TOOLS)
        vm.Check("mkdir /tmp/fs /tmp/p9 && mount -t virtiofs fs /tmp/fs && "
                 "mount -t 9p -o trans=virtio,version=9p2000.L p9 /tmp/p9")
        # By the control queue: the device filters by this address now.
        vm.Check("ip link set eth0 address 02:00:00:00:09:09 && ip link set eth0 up && "
                 f"ip addr add {GUEST}/24 dev eth0 && ping -c 1 -W 10 {HOST}", 30)

    def test_2_suspended_and_resumed(self):
        vm = self.Shared()
        digest = images.Random(self.Path("data"), 16 * MIB, 5)
        source = Source(HOST, self.Path("data"), pause_at=4 * MIB)
        vm.Check(f"(nc {HOST} {source.port} < /dev/null | sha256sum > /tmp/download) &")
        for tag in ("fs", "p9"):
            vm.Check(READER.format(tag=tag))
        vm.Check(f"({FIO}; echo $? > /tmp/fio.status) > /dev/null 2>&1 &")
        self.assertTrue(source.reached.wait(60))
        for _ in range(5):
            vm.Control("suspend")
            vm.Control("resume")
            vm.Check("sleep 0.3")
        source.go_on.set()
        vm.Check("while [ ! -s /tmp/download ]; do sleep 0.2; done", 60)
        self.assertEqual(vm.Check("cat /tmp/download").split()[0], digest)

    def test_3_open_files_and_mounts(self):
        vm = self.Shared()
        vm.Check("touch /tmp/go; wait; sleep 1")
        for tag in ("fs", "p9"):
            self.assertEqual(vm.Check(f"cat /tmp/{tag}.out"), "first\n" + "rest\n" * 100)
            vm.Check(f"echo new > /tmp/{tag}/new && cat /tmp/{tag}/new && ls /tmp/{tag}")
            self.assertTrue(os.path.exists(os.path.join(self.Path(tag), "new")))

    def test_4_the_disk(self):
        vm = self.Shared()
        vm.Check("while [ ! -s /tmp/fio.status ]; do sleep 0.2; done", 180)
        self.assertEqual(vm.Check("cat /tmp/fio.status").strip(), "0", vm.Check("cat /tmp/fio.log"))
        self.assertNotIn("I/O error", vm.Check("dmesg"))

    def test_5_powers_off(self):
        self.Shared().PowerOff()
