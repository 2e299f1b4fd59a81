#!/usr/bin/env python3
"""Memory of each process of a running VM: PSS and USS from smaps, guest RAM left out.

Guest RAM is a shared memfd mapping; it is told from the rest by its size and its name in smaps (`memfd:`). Ours with a root disk, a
second disk, rng and a console; the peer is QEMU -M microvm with the same disks, in one process.
"""
import os
import re
import shutil
import sys

import bench_lib
import images
import settings
from bench_lib import PathOf


def Memory(pid):
    """(pss, uss, guest pss) in KiB."""
    pss = uss = guest = 0
    is_guest = False
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
        for line in file:
            header = re.match(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+\s*(.*)", line)
            if header:
                size = int(header.group(2), 16) - int(header.group(1), 16)
                name = header.group(3)
                # Without memory-backend-memfd QEMU's guest RAM is anonymous, and by far the largest.
                is_guest = "memfd:" in name or "/dev/zero" in name or size >= 128 << 20
                continue
            key, _, value = line.partition(":")
            if key == "Pss":
                if is_guest:
                    guest += int(value.split()[0])
                else:
                    pss += int(value.split()[0])
            elif key in ("Private_Clean", "Private_Dirty") and not is_guest:
                uss += int(value.split()[0])
    return pss, uss, guest


def PeerCommand(kernel, root, data):
    return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-M", "microvm,pcie=on", "-enable-kvm", "-cpu", "host", "-m", "256",
            "-smp", "1", "-kernel", PathOf("vmlinux", kernel), "-initrd", PathOf("initramfs", kernel),
            "-append", "console=ttyS0 reboot=t panic=-1 quiet root=/dev/vda ro crosvm.test=shell",
            "-drive", f"if=none,id=r,file={root},format=raw,readonly=on", "-device", "virtio-blk-pci,drive=r",
            "-drive", f"if=none,id=d,file={data},format=raw", "-device", "virtio-blk-pci,drive=d", "-device", "virtio-rng-pci",
            "-serial", "stdio", "-display", "none", "-no-reboot"]


def Main():
    args = bench_lib.Arguments(__doc__, 1)
    bench_lib.Prepare(args)
    try:
        root = images.CopyRoot(os.path.join(settings.work_dir, "root"))
        data = images.Sparse(os.path.join(settings.work_dir, "data"), 64 * images.MIB)
        print(f"{'side':6}{'pid':>7}{'PSS KiB':>10}{'USS KiB':>10}{'guest KiB':>11}  command")
        for side in args.sides:
            vm = bench_lib.SideVm(side, PeerCommand(args.kernel, root, data), kernel=args.kernel,
                                  options=["-r", root, "--rwdisk", data])
            try:
                vm.Boot(30)
                # After some work, so that what is needed at run time is there.
                vm.Check("dd if=/dev/vdb of=/dev/null bs=1M", 30)
                total = 0
                for pid, command in vm.Processes():
                    pss, uss, guest = Memory(pid)
                    total += pss
                    print(f"{side:6}{pid:7}{pss:10}{uss:10}{guest:11}  {command[:80]}")
                print(f"{side:6}{'':7}{total:10}  in all", flush=True)
                vm.PowerOff()
            finally:
                vm.Close()
    finally:
        shutil.rmtree(settings.work_dir, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(Main())
