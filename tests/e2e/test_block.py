"""Disks: several, multi-queue, verified by fio, discard, both ways of asynchronous I/O."""
import hashlib
import json
import os
import signal

import images
from e2e import E2eTest, EachKernel

FIO = ("fio --name=verify --filename=/dev/{device} --rw=randwrite --bs=4k-64k --size=16M --io_size=8M --direct=1 "
       "--ioengine=libaio --iodepth=16 --verify=crc32c --do_verify=1 --verify_fatal=1 --norandommap=0 "
       "--randseed={seed} --output=/tmp/fio.log")


@EachKernel
class ThreeDisks(E2eTest):
    """Root, a writable multi-queue disk over each back end, a read-only one."""

    ordered = True

    def test_1_all_are_there(self):
        content = images.Random(self.Path("fixed"), 4 * images.MIB, 3)
        for name in ("uring", "pool"):
            images.Sparse(self.Path(name), 32 * images.MIB)
        vm = self.Vm(cpus=2, options=["-r", self.RootPath()], disks=[
            images.Disk(self.Path("uring"), writable=True, suboptions=("queues=2", "id=first-disk", "engine=io_uring")),
            images.Disk(self.Path("pool"), writable=True, suboptions=("queues=2", "engine=pool", "block_size=4096")),
            images.Disk(self.Path("fixed"))])
        vm.Boot(20)
        type(self).shared, type(self).content = vm, content
        # One dump of everything: a round trip to the guest costs more than the check.
        sizes = vm.Check("for d in vda vdb vdc vdd; do cat /sys/block/$d/size; done").split()
        self.assertEqual(sizes[1:], [str(32 * 2048), str(32 * 2048), str(4 * 2048)])

    @classmethod
    def RootPath(cls):
        images.CopyRoot(cls.Path("root"))
        return cls.Path("root")

    def test_2_attributes(self):
        vm = self.Shared()
        self.assertEqual(vm.Check("cat /sys/block/vdb/serial").strip(), "first-disk")
        self.assertEqual(vm.Check("cat /sys/block/vdc/queue/logical_block_size").strip(), "4096")
        self.assertEqual(vm.Check("cat /sys/block/vdd/ro").strip(), "1")
        self.assertEqual(vm.Check("ls /sys/block/vdb/mq").split(), ["0", "1"])

    def test_3_read_only_contents(self):
        self.assertIn(self.content, self.Shared().Check("sha256sum /dev/vdd", 30))
        status, _ = self.Shared().Shell("dd if=/dev/zero of=/dev/vdd bs=4096 count=1")
        self.assertNotEqual(status, 0)

    def test_4_fio_verify_with_io_uring(self):
        self.Shared().Check(FIO.format(device="vdb", seed=11) + " || { cat /tmp/fio.log; false; }", 120)

    def test_5_fio_verify_with_the_pool(self):
        self.Shared().Check(FIO.format(device="vdc", seed=12) + " || { cat /tmp/fio.log; false; }", 120)

    def test_6_discard_punches_holes(self):
        vm = self.Shared()
        vm.Check("dd if=/dev/urandom of=/dev/vdb bs=1M count=16 oflag=direct", 60)
        before = images.AllocatedBytes(self.Path("uring"))
        vm.Check("blkdiscard -o 0 -l 8388608 /dev/vdb", 30)
        after = images.AllocatedBytes(self.Path("uring"))
        self.assertLessEqual(after, before - 7 * images.MIB, (before, after))
        vm.Check("blkdiscard -z -o 8388608 -l 4194304 /dev/vdb", 30)
        self.assertEqual(vm.Check("dd if=/dev/vdb bs=1M skip=8 count=4 2>/dev/null | tr -d '\\0' | wc -c").split()[-1], "0")
        # The pool makes other calls for the same.
        vm.Check("dd if=/dev/urandom of=/dev/vdc bs=1M count=2 conv=fsync && blkdiscard -z -o 0 -l 1048576 /dev/vdc", 60)
        self.assertEqual(vm.Check("dd if=/dev/vdc bs=1M count=1 2>/dev/null | tr -d '\\0' | wc -c").split()[-1], "0")

    def test_7_contents_are_seen_from_the_host(self):
        vm = self.Shared()
        digest = vm.Check("dd if=/dev/urandom of=/dev/vdc bs=64k count=32 oflag=direct 2>/dev/null; sync; "
                          "dd if=/dev/vdc bs=64k count=32 2>/dev/null | sha256sum", 30).split()[0]
        vm.PowerOff()
        with open(self.Path("pool"), "rb") as file:
            self.assertEqual(hashlib.sha256(file.read(32 << 16)).hexdigest(), digest)
        self.assertTrue(os.path.getsize(self.Path("pool")) == 32 * images.MIB)


class Resize(E2eTest):
    """`crosvm disk resize`: the image and the guest's disk change together, also under a restarted device."""

    ordered = True

    def test_1_grows_before_the_guests_eyes(self):
        for name in ("other", "disk"):
            images.Sparse(self.Path(name), 4 * images.MIB)
        vm = self.Vm(socket=True, disks=[images.Disk(self.Path("other"), suboptions=("ro",)),
                                         images.Disk(self.Path("disk"), writable=True)])
        vm.Boot(20)
        type(self).shared = vm
        vm.Control("disk", "resize", "1", "12M")
        vm.Check(f"while [ $(cat /sys/block/vdb/size) != {12 * 2048} ]; do sleep 0.1; done", 20)
        self.assertEqual(os.path.getsize(self.Path("disk")), 12 * images.MIB)
        vm.Check("dd if=/dev/urandom of=/dev/vdb bs=1M seek=11 count=1 oflag=direct", 20)

    def test_2_a_restarted_device_keeps_the_size(self):
        vm = self.Shared()
        pid = next(process["pid"] for process in json.loads(vm.Control("ps", "--json"))["processes"]
                   if process["name"] == "block[1]")
        os.kill(pid, signal.SIGKILL)
        vm.Check("dd if=/dev/urandom of=/dev/vdb bs=1M seek=10 count=2 oflag=direct", 30)
        self.assertEqual(vm.Check("cat /sys/block/vdb/size").strip(), str(12 * 2048))

    def test_3_what_cannot_be_is_refused(self):
        vm = self.Shared()
        for index, size in (("0", "8M"), ("2", "8M"), ("1", "0")):
            vm.Control("disk", "resize", index, size, expected=1)
        vm.Control("balloon", "1M", expected=1)
        self.assertEqual(os.path.getsize(self.Path("disk")), 12 * images.MIB)
        vm.PowerOff()
