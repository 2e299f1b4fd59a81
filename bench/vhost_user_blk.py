#!/usr/bin/env python3
"""vhost-user block back ends without any guest: `crosvm device block` against `qemu-storage-daemon`.

The load generator (build/release/bench/vhost_user_blk_load, or --load PATH) is a vhost-user front end that submits requests and
prints one JSON object {"iops": …, "bandwidth": …}; it is called as
`LOAD --socket PATH --rw randread|randwrite|read|write --block-size BYTES --depth N --seconds S`.
Needs no KVM, so it runs natively everywhere.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import bench_lib
import images
import settings
from bench_lib import SOURCE_DIR

JOBS = [
    ("4 KiB random read", "randread", 4096, 32, "iops", "IOPS"),
    ("4 KiB random write", "randwrite", 4096, 32, "iops", "IOPS"),
    ("1 MiB sequential read", "read", 1 << 20, 8, "bandwidth", "B/s"),
    ("1 MiB sequential write", "write", 1 << 20, 8, "bandwidth", "B/s"),
]
SIZE_MIB = 512


def Server(side, socket, data):
    if side == "ours":
        return [settings.binary, "device", "block", "--socket-path", socket, data + ",direct=true"]
    return ["qemu-storage-daemon", "--object", "iothread,id=io",
            "--blockdev", f"driver=file,node-name=f,filename={data},aio=io_uring,cache.direct=on,discard=unmap",
            "--export", f"type=vhost-user-blk,id=e,node-name=f,writable=on,iothread=io,addr.type=unix,addr.path={socket}"]


def OneServer(side, args, folder, data):
    socket = os.path.join(folder, f"{side}.sock")
    figures = {}
    for name, rw, size, depth, key, _ in JOBS:
        server = subprocess.Popen(Server(side, socket, data), stdin=subprocess.DEVNULL)
        try:
            while not os.path.exists(socket):
                if server.poll() is not None:
                    sys.exit(f"{side}: the server ended with status {server.returncode}")
                time.sleep(0.01)
            done = subprocess.run([args.load, "--socket", socket, "--rw", rw, "--block-size", str(size), "--depth", str(depth),
                                   "--seconds", str(args.seconds)], check=True, capture_output=True, text=True)
            figures[name] = json.loads(done.stdout)[key]
            print(f"{side}: {name}: {figures[name]:.0f}", flush=True)
        finally:
            server.terminate()
            try:
                server.wait(timeout=5)
            except subprocess.TimeoutExpired:
                # qemu-storage-daemon 7.2 now and then hangs when its front-end has just left.
                server.kill()
                server.wait()
            if os.path.exists(socket):
                os.unlink(socket)
    return figures


def Main():
    def Configure(parser):
        parser.add_argument("--seconds", type=int, default=5)
        parser.add_argument("--load", default=os.path.join(SOURCE_DIR, "build", "release", "bench", "vhost_user_blk_load"))
        parser.add_argument("--folder", default="/dev/shm",
                            help="where the image lies (default: in memory, so that no disk is what is measured)")

    args = bench_lib.Arguments(__doc__, 3, Configure)
    if not os.access(args.load, os.X_OK):
        sys.exit(f"{args.load} is missing: the load generator is not built")
    folder = tempfile.mkdtemp(prefix="bench-", dir=args.folder)
    try:
        data = os.path.join(folder, "data")
        with open(data, "wb") as file:
            for _ in range(SIZE_MIB):
                file.write(b"\xa5" * images.MIB)
        results = {side: [] for side in args.sides}
        for run in range(args.runs):
            for side in args.sides if run % 2 == 0 else reversed(args.sides):
                results[side].append(OneServer(side, args, folder, data))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    rows = []
    for name, _, _, _, _, unit in JOBS:
        both = [bench_lib.Median([figures[name] for figures in results[side]]) if side in results else None
                for side in ("ours", "peer")]
        rows.append((name, *both, unit))
    bench_lib.Table("vhost-user block, native", rows, "higher")
    return 0


if __name__ == "__main__":
    sys.exit(Main())
