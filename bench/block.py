#!/usr/bin/env python3
"""Disk speed in the guest: fio, ours against QEMU virtio-blk-pci with an I/O thread and aio=io_uring.

4 KiB random read and write at depth 32, 1 MiB sequential read and write; one raw image, direct I/O in the guest. The image lies in
memory under nested KVM, else in the temporary folder.
"""
import json
import os
import shutil
import sys

import bench_lib
import images
import settings
from bench_lib import PathOf

JOBS = [  # name, fio arguments, what to read from the result, unit
    ("4 KiB random read", "--rw=randread --bs=4k --iodepth=32", ("read", "iops"), "IOPS"),
    ("4 KiB random write", "--rw=randwrite --bs=4k --iodepth=32", ("write", "iops"), "IOPS"),
    ("1 MiB sequential read", "--rw=read --bs=1M --iodepth=8", ("read", "bw"), "KiB/s"),
    ("1 MiB sequential write", "--rw=write --bs=1M --iodepth=8", ("write", "bw"), "KiB/s"),
]
SIZE_MIB = 256


def PeerCommand(kernel, root, data):
    return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-M", "q35", "-enable-kvm", "-cpu", "host", "-m", "512", "-smp", "1",
            "-kernel", PathOf("vmlinux", kernel), "-initrd", PathOf("initramfs", kernel),
            "-append", "console=ttyS0 reboot=t panic=-1 quiet root=/dev/vda ro crosvm.test=shell",
            "-object", "iothread,id=io",
            "-drive", f"if=none,id=r,file={root},format=raw,readonly=on", "-device", "virtio-blk-pci,drive=r",
            "-drive", f"if=none,id=d,file={data},format=raw,aio=io_uring,cache=none,discard=unmap",
            "-device", "virtio-blk-pci,drive=d,iothread=io",
            "-serial", "stdio", "-display", "none", "-no-reboot"]


def OneGuest(side, args, root, data):
    """{job name: figure} of one boot."""
    vm = bench_lib.SideVm(side, PeerCommand(args.kernel, root, data), kernel=args.kernel, mem=512,
                          options=["-r", root, "--rwdisk", data + ",direct=true"])
    try:
        vm.Boot(30)
        figures = {}
        for name, options, (direction, key), _ in JOBS:
            text = vm.Check(f"fio --name=b --filename=/dev/vdb {options} --direct=1 --ioengine=libaio --time_based "
                            f"--runtime={args.seconds} --ramp_time=1 --output-format=json --output=/tmp/fio.json "
                            f">/dev/null && cat /tmp/fio.json", args.seconds + 60)
            figures[name] = json.loads(text[text.index("{"):])["jobs"][0][direction][key]
            print(f"{side}: {name}: {figures[name]:.0f}", flush=True)
        vm.PowerOff()
        return figures
    finally:
        vm.Close()


def Main():
    args = bench_lib.Arguments(__doc__, 3, lambda parser: parser.add_argument(
        "--seconds", type=int, default=5, help="of each fio job (default 5)"))
    bench_lib.Prepare(args, mem=4096)
    try:
        root = images.CopyRoot(os.path.join(settings.work_dir, "root"))
        data = os.path.join(settings.work_dir, "data")
        # Allocated beforehand: both sides shall overwrite, not allocate.
        with open(data, "wb") as file:
            for _ in range(SIZE_MIB):
                file.write(b"\xa5" * images.MIB)
        results = {side: [] for side in args.sides}
        for run in range(args.runs):
            for side in args.sides if run % 2 == 0 else reversed(args.sides):
                results[side].append(OneGuest(side, args, root, data))
    finally:
        shutil.rmtree(settings.work_dir, ignore_errors=True)
    rows = []
    for name, _, _, unit in JOBS:
        both = [bench_lib.Median([figures[name] for figures in results[side]]) if side in results else None
                for side in ("ours", "peer")]
        rows.append((name, *both, unit))
    bench_lib.Table("block", rows, "higher")
    return 0


if __name__ == "__main__":
    sys.exit(Main())
