#!/usr/bin/env python3
"""Shared directories: `crosvm device fs` against Debian's virtiofsd (package qemu-system-common), without any guest.

The load generator (build/release/bench/vhost_user_fs_load, or --load PATH) is a vhost-user front end that does what so many
processes of a guest would: see its head. Both servers have the same directory of a memory file system and their default threads,
in turns. Needs no KVM, so it runs natively everywhere. Needs root (virtiofsd does). With --calls, the system calls for each request
are counted by strace instead.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import bench_lib
import settings
from bench_lib import SOURCE_DIR

# name, work, clients, figure, unit
JOBS = [
    ("metadata mix, 1 client", "metadata", 1, "ops", "ops/s"),
    ("metadata mix, 4 clients", "metadata", 4, "ops", "ops/s"),
    ("metadata mix, 8 clients", "metadata", 8, "ops", "ops/s"),
    ("4 KiB random read, 8 clients", "randread", 8, "ops", "ops/s"),
    ("4 KiB random write, 8 clients", "randwrite", 8, "ops", "ops/s"),
    ("1 MiB sequential read", "read", 2, "bandwidth", "B/s"),
    ("1 MiB sequential write", "write", 2, "bandwidth", "B/s"),
]


def Server(side, socket, folder):
    if side == "ours":
        return [settings.binary, "device", "fs", "--socket-path", socket, f"{folder}:data:type=fs"]
    return ["/usr/lib/qemu/virtiofsd", f"--socket-path={socket}", "-o", f"source={folder}", "-o", "sandbox=chroot"]


def End(server):
    """Ends a server, and gives what it used. virtiofsd ends with its front-end, ours with SIGTERM."""
    for number, patience in ((0, 1), (15, 5), (9, 60)):
        if number:
            os.killpg(server.pid, number)  # alone in its session
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            pid, status, usage = os.wait4(server.pid, os.WNOHANG)
            if pid:
                server.returncode = os.waitstatus_to_exitcode(status)
                return usage
            time.sleep(0.02)
    raise AssertionError("a killed process does not end")


def Measure(side, args, work, clients):
    """One server, one load; gives the load's figures and what the server wrote (strace's table with --calls)."""
    folder = tempfile.mkdtemp(prefix="bench-share-", dir="/dev/shm")
    socket, log = folder + ".sock", folder + ".log"
    command = Server(side, socket, folder)
    if args.calls:
        command = ["strace", "-f", "-c", "-S", "calls", "-o", log, *command]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              start_new_session=True)
    try:
        while not os.path.exists(socket):
            if server.poll() is not None:
                sys.exit(f"{side}: the server ended with status {server.returncode}")
            time.sleep(0.01)
        done = subprocess.run([args.load, "--socket", socket, "--work", work, "--clients", str(clients), "--seconds",
                               str(args.seconds)], check=True, capture_output=True, text=True)
        figures = json.loads(done.stdout)
    finally:
        usage = End(server)
        shutil.rmtree(folder, ignore_errors=True)
        if os.path.exists(socket):
            os.unlink(socket)
    # What it cost the server: steady where other work on the machine makes the times of the clock uneven.
    figures["cpu"] = (usage.ru_utime + usage.ru_stime) * 1e6 / (figures["ops"] * args.seconds)
    return figures, log


def CountCalls(args):
    rows = []
    for name, work, clients, _, _ in JOBS[:5]:
        both = []
        for side in ("ours", "peer"):
            if side not in args.sides:
                both.append(None)
                continue
            figures, log = Measure(side, args, work, clients)
            with open(log, encoding="ascii") as file:
                total = re.search(r"(\d+)\s+(?:\d+\s+)?total$", file.read(), re.MULTILINE)
            os.unlink(log)
            both.append(int(total.group(1)) / (figures["ops"] * args.seconds))
        rows.append((name, *both, "calls/op"))
    bench_lib.Table("system calls for a request (under strace, which slows both)", rows, "lower")


def Main():
    def Configure(parser):
        parser.add_argument("--seconds", type=int, default=4)
        parser.add_argument("--calls", action="store_true", help="count system calls")
        parser.add_argument("--load", default=os.path.join(SOURCE_DIR, "build", "release", "bench", "vhost_user_fs_load"))

    args = bench_lib.Arguments(__doc__, 3, Configure)
    if not os.access(args.load, os.X_OK):
        sys.exit(f"{args.load} is missing: the load generator is not built")
    if "peer" in args.sides and not os.access("/usr/lib/qemu/virtiofsd", os.X_OK):
        sys.exit("/usr/lib/qemu/virtiofsd is missing: install qemu-system-common, or measure with --only ours")
    if args.calls:
        CountCalls(args)
        return 0
    results = {(side, job[0]): [] for side in args.sides for job in JOBS}
    for run in range(args.runs):
        for name, work, clients, key, _ in JOBS:
            for side in args.sides if run % 2 == 0 else reversed(args.sides):
                figures = Measure(side, args, work, clients)[0]
                results[side, name].append((figures[key], figures["cpu"]))
                print(f"{side}: {name}: {figures[key]:.0f}, {figures['cpu']:.2f} us", flush=True)
    for index, title, unit_of in ((0, "vhost-user fs, native", None), (1, "processor time of the server", "us/op")):
        rows = []
        for name, _, _, _, unit in JOBS:
            both = [bench_lib.Median([pair[index] for pair in results[side, name]]) if side in args.sides else None
                    for side in ("ours", "peer")]
            rows.append((name, *both, unit_of or unit))
        bench_lib.Table(title, rows, "lower" if index else "higher")
    return 0


if __name__ == "__main__":
    sys.exit(Main())
