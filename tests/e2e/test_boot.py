"""Booting: image formats, memory sizes, processors, interrupt controllers, root disks."""
import os
import re
import time

import images
import settings
from e2e import E2eTest, EachKernel
from guest_paths import PathOf


@EachKernel
class BzImage(E2eTest):
    """The plainest VM there is: compressed kernel, initramfs, one processor, 256 MiB."""

    quick = True
    needs_crosvm = False
    ordered = True

    def test_1_boots_to_a_shell(self):
        vm = self.Vm(image="vmlinuz", params="crosvm.probe=1")
        vm.Boot(30)
        type(self).shared = vm
        self.assertEqual(vm.Check("uname -r").strip(), PathOf("version", self.kernel))

    def test_2_memory_is_what_was_asked_for(self):
        total = int(self.Shared().Check("grep MemTotal /proc/meminfo").split()[1])
        # The kernel keeps some for itself before it counts.
        self.assertTrue(180 * 1024 < total <= 256 * 1024, total)

    def test_3_command_line_arrives(self):
        self.assertIn("crosvm.probe=1", self.Shared().Check("cat /proc/cmdline").split())

    def test_4_hypervisor_is_seen(self):
        self.assertIn("hypervisor", self.Shared().Check("grep -m1 ^flags /proc/cpuinfo").split())
        self.assertIn("Hypervisor detected: KVM", self.Shared().Check("dmesg | grep Hypervisor"))

    def test_5_clock_is_right(self):
        guest = int(self.Shared().Check("date +%s"))
        self.assertLess(abs(guest - time.time()), 60)

    def test_6_powers_off_with_status_0(self):
        self.Shared().PowerOff()


@EachKernel
class TwoProcessorsSplitIrqchip(E2eTest):
    """Decompressed kernel, two processors, and the interrupt controllers that are ours instead of KVM's."""

    ordered = True

    def test_1_both_processors_are_online(self):
        content = images.Random(self.Path("disk"), 4 * images.MIB, 1)
        vm = self.Vm(cpus=2, options=["--split-irqchip"], disks=[images.Disk(self.Path("disk"))])
        vm.Boot()
        type(self).shared, type(self).content = vm, content
        self.assertEqual(vm.Check("cat /sys/devices/system/cpu/online").strip(), "0-1")

    def test_2_interrupts_arrive(self):
        self.assertIn(self.content, self.Shared().Check("sha256sum /dev/vda", 30))
        self.assertRegex(self.Shared().Check("grep -E 'IO-APIC|PCI-MSI' /proc/interrupts"), "IO-APIC")

    def test_3_reboot_gives_status_32(self):
        self.Shared().Send("9 reboot -f\n")
        self.Shared().ExpectExit(32)


@EachKernel
class FourProcessorsFiveGigabytes(E2eTest):
    """Memory above the hole below 4 GiB, four processors, and INTx instead of MSI."""

    ordered = True

    def test_1_all_processors_are_online(self):
        content = images.Random(self.Path("disk"), 4 * images.MIB, 2)
        vm = self.Vm(cpus=4, mem=5120, params="pci=nomsi", disks=[images.Disk(self.Path("disk"))], socket=True)
        vm.Boot(30)
        type(self).shared, type(self).content = vm, content
        self.assertEqual(vm.Check("cat /sys/devices/system/cpu/online").strip(), "0-3")

    def test_2_memory_above_4_gib_is_used(self):
        vm = self.Shared()
        total = int(vm.Check("grep MemTotal /proc/meminfo").split()[1])
        self.assertGreater(total, 4800 * 1024)
        self.assertIn("100000000-", vm.Check("grep 'System RAM' /proc/iomem"))
        # Linux hands out high memory first, so a file of this size lies there.
        vm.Check("dd if=/dev/urandom of=/tmp/a bs=1M count=32 && cp /tmp/a /tmp/b && cmp /tmp/a /tmp/b", 60)

    def test_3_disk_works_by_intx(self):
        vm = self.Shared()
        self.assertIn(self.content, vm.Check("sha256sum /dev/vda", 30))
        self.assertNotIn("MSI", vm.Check("grep virtio /proc/interrupts"))

    def test_4_stop_ends_it_with_status_0(self):
        self.Shared().Control("stop")
        self.Shared().ExpectExit(0)


@EachKernel
class ReadOnlyRoot(E2eTest):
    """`-r`: the root disk, untouched afterwards."""

    ordered = True

    def test_1_boots_from_the_disk(self):
        images.CopyRoot(self.Path("root"))
        type(self).before = images.Sha256(self.Path("root"))
        vm = self.Vm(options=["-r", self.Path("root")])
        vm.Boot(20)
        type(self).shared = vm
        self.assertIn("crosvm-guest: root disk", vm.console)
        self.assertRegex(vm.Check("cat /proc/cmdline"), r"root=/dev/vda ro")

    def test_2_cannot_be_written(self):
        status, output = self.Shared().Shell("mount -o remount,rw /")
        self.assertNotEqual(status, 0, output)
        self.assertEqual(self.Shared().Check("cat /sys/block/vda/ro").strip(), "1")

    def test_3_is_unchanged_after_power_off(self):
        self.Shared().PowerOff()
        self.assertEqual(images.Sha256(self.Path("root")), self.before)


@EachKernel
class WritableRoot(E2eTest):
    """`--rwroot`: what the guest wrote is in the image, and the file system is whole."""

    quick = True
    ordered = True

    def test_1_boots_and_writes(self):
        images.CopyRoot(self.Path("root"))
        vm = self.Vm(options=["--rwroot", self.Path("root")])
        vm.Boot(20)
        type(self).shared = vm
        vm.Check("echo written by the guest >/root/note")
        vm.Check("dd if=/dev/urandom of=/root/noise bs=64k count=64 && sync", 30)
        type(self).digest = vm.Check("sha256sum /root/noise", 30).split()[0]
        vm.PowerOff()

    def test_2_contents_are_seen_from_the_host(self):
        import hashlib
        self.assertEqual(images.ReadFromExt4(self.Path("root"), "/root/note"), b"written by the guest\n")
        self.assertEqual(hashlib.sha256(images.ReadFromExt4(self.Path("root"), "/root/noise")).hexdigest(), self.digest)
        # A forced power-off leaves the journal to be replayed; that is no damage.
        import subprocess
        subprocess.run(["/sbin/e2fsck", "-fp", self.Path("root")], stdout=subprocess.DEVNULL)
        self.assertEqual(images.CheckExt4(self.Path("root")), "")


class Firmware(E2eTest):
    """`--bios` starts a firmware image, which greets."""

    def test_seabios_prints_its_banner(self):
        path = "/usr/share/seabios/bios.bin"
        if not os.path.exists(path):
            self.fail(f"{path} is missing (tools/setup installs it)")
        vm = self.Vm(initrd=False, kernel_path="", test_mode=None, quiet=False, socket=True, options=["--bios", path])
        vm.Start()
        # It speaks through the debug console at port 0x402, which is our standard error.
        deadline = time.monotonic() + 10 * settings.time_scale
        while not re.search(r"SeaBIOS \(version", vm.console + vm.stderr):
            self.assertLess(time.monotonic(), deadline, "no banner\n" + vm.Report())
            time.sleep(0.1)
        vm.Control("stop")
        vm.ExpectExit(0)
