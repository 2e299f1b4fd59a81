"""What the guest's kernel thinks of our machine: golden `lspci -vv`, and no complaint in dmesg."""
import os
import re

import images
import settings
from e2e import E2eTest, EachKernel


def AllowedDmesg():
    """[regex] of golden/dmesg-allowed.txt: a reason in a comment above each."""
    with open(os.path.join(settings.golden_dir, "dmesg-allowed.txt"), encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip() and not line.startswith("#")]


@EachKernel
class Machine(E2eTest):
    ordered = True

    def test_1_lspci_is_as_agreed(self):
        images.CopyRoot(self.Path("root"))
        images.Sparse(self.Path("disk"), images.MIB)
        vm = self.Vm(options=["-r", self.Path("root")], disks=[images.Disk(self.Path("disk"), writable=True)])
        vm.Boot(20)
        type(self).shared = vm
        text = vm.Check("lspci -vv -nn", 30)
        # What the guest's kernel chooses, not we.
        text = re.sub(r"IRQ \d+", "IRQ N", text)
        text = re.sub(r"Kernel modules:.*\n", "", text)
        self.CheckGolden(f"lspci-{self.kernel}.txt", text)

    def test_2_dmesg_has_no_warning(self):
        text = self.Shared().Check("dmesg -r", 30)
        allowed = AllowedDmesg()

        def Allowed(part):
            return any(re.search(pattern, part) for pattern in allowed)

        # A kernel WARNING with its trace is judged as one.
        text = re.sub(r"(?ms)^[^\n]*\[ cut here \].*?\[ end trace \w+ \][^\n]*\n",
                      lambda block: "" if Allowed(block.group(0)) else block.group(0), text)
        lines = [line for line in text.splitlines()
                 if re.match(r"<(\d+)>", line) and int(re.match(r"<(\d+)>", line).group(1)) & 7 <= 4]
        bad = [line for line in lines if not Allowed(line)]
        self.assertEqual(bad, [])

    def test_3_acpi_is_complete(self):
        vm = self.Shared()
        tables = vm.Check("ls /sys/firmware/acpi/tables").split()
        for table in ("APIC", "DSDT", "FACP", "MCFG"):
            self.assertIn(table, tables)
        self.assertRegex(vm.Check("dmesg | grep -i 'ACPI: Interpreter'"), "enabled")

    def test_4_random_numbers_come_from_virtio(self):
        vm = self.Shared()
        self.assertIn("virtio_rng", vm.Check("cat /sys/class/misc/hw_random/rng_available"))
        self.assertEqual(vm.Check("dd if=/dev/hwrng bs=512 count=4 2>/dev/null | wc -c").strip(), "2048")

    def test_5_driver_can_be_unbound_and_bound_again(self):
        vm = self.Shared()
        vm.Check("dev=$(basename $(readlink -f /sys/block/vdb/device)); echo $dev >/sys/bus/virtio/drivers/virtio_blk/unbind"
                 " && echo $dev >/sys/bus/virtio/drivers/virtio_blk/bind && dd if=/dev/vdb of=/dev/null bs=64k", 30)

    def test_6_powers_off(self):
        self.Shared().PowerOff()
