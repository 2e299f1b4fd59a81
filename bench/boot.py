#!/usr/bin/env python3
"""Boot time: from exec of the VMM to the first line of the guest's /init, ours against QEMU -M microvm.

Same kernel (decompressed and bzImage), same initramfs, one processor, 256 MiB, serial console; runs alternate.
"""
import shutil
import sys
import time

import bench_lib
import settings
from bench_lib import PathOf

MARK = r"crosvm-guest: init\n"


def PeerCommand(kernel, image):
    return ["qemu-system-x86_64", "-nodefaults", "-no-user-config",
            "-M", "microvm,pcie=off,pic=off,pit=off,rtc=off,isa-serial=on", "-enable-kvm", "-cpu", "host", "-m", "256", "-smp", "1",
            "-kernel", PathOf(image, kernel), "-initrd", PathOf("initramfs", kernel),
            "-append", "console=ttyS0 reboot=t panic=-1 quiet crosvm.test=poweroff", "-serial", "stdio", "-display", "none",
            "-no-reboot"]


def OneBoot(side, kernel, image):
    """Seconds to /init, and to the end of the VMM."""
    vm = bench_lib.SideVm(side, PeerCommand(kernel, image), kernel=kernel, image=image, test_mode="poweroff")
    try:
        vm.Start()
        vm.WaitFor(MARK, 60)
        to_init = time.monotonic() - vm.started
        vm.Wait(30)
        return to_init, time.monotonic() - vm.started
    finally:
        vm.Close()


def Main():
    args = bench_lib.Arguments(__doc__, 5, lambda parser: parser.add_argument(
        "--image", choices=["vmlinux", "vmlinuz"], action="append", help="only this image format"))
    bench_lib.Prepare(args)
    rows = []
    try:
        for image in args.image or ["vmlinux", "vmlinuz"]:
            results = {side: [] for side in args.sides}
            for run in range(args.runs):
                for side in args.sides if run % 2 == 0 else reversed(args.sides):
                    measured = OneBoot(side, args.kernel, image)
                    results[side].append(measured)
                    print(f"{image} {side} run {run + 1}: init after {measured[0]:.3f} s, end after {measured[1]:.3f} s",
                          flush=True)
            for index, name in enumerate(("to /init", "to the end")):
                both = [bench_lib.Median([m[index] for m in results[side]]) if side in results else None
                        for side in ("ours", "peer")]
                rows.append((f"{image} {name}", *both, "s"))
    finally:
        shutil.rmtree(settings.work_dir, ignore_errors=True)
    bench_lib.Table("boot", rows, "lower")
    return 0


if __name__ == "__main__":
    sys.exit(Main())
