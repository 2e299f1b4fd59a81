#!/usr/bin/env python3
"""What jails cost, and what a device's death costs its guest.

  spawn   CPU and wall time to start and jail 1, 4 and 16 devices, with 0, 100 and 500 more mounts on the host; memory
          (needs root for the mounts, no KVM)
  boot    exec to /init, jailed ("ours") against --disable-sandbox ("peer")
  kills   kills the process of a disk with two queues N times while fio verifies reads and writes and discards run
          beside it; prints how long each stood still
"""
import base64
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import bench_lib
import settings

WORDS = ("spawn", "boot", "kills")


def Configure(parser):
    parser.add_argument("what", choices=WORDS)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--spawn-binary", help="jail_spawn of the same build (default beside crosvm, bench/jail_spawn)")


def Spawn(args):
    binary = args.spawn_binary or os.path.join(os.path.dirname(settings.binary), "bench", "jail_spawn")
    print(f"{'mounts':>8}{'devices':>9}{'':>9}{'wall ms':>9}{'CPU ms of the device':>22}{'of its parents':>16}{'USS KiB':>9}"
          f"{'PSS KiB':>9}")
    for mounts in (0, 100, 500):
        for mode in ("spawner", "direct"):
            for count in (1, 4, 16):
                command = " ".join([binary, str(count)] + (["direct"] if mode == "direct" else []))
                script = ("mount -t tmpfs none /mnt && cd /mnt && for i in $(seq %d); do mkdir $i && mount --bind $i $i; "
                          "done; for i in $(seq %d); do %s; done" % (mounts, args.runs, command))
                done = subprocess.run(["unshare", "-m", "sh", "-c", script], check=True, capture_output=True, text=True)
                runs = [json.loads(line) for line in done.stdout.splitlines()]
                values = {key: bench_lib.Median([run[key] for run in runs]) for key in runs[0] if key != "layers"}
                print(f"{mounts:8}{count:9}{mode:>9}{values['wall_ms']:9.2f}{values['cpu_ms']:22.2f}"
                      f"{values['spawner_ms']:16.2f}{values['uss_kib']:9.0f}{values['pss_kib']:9.0f}", flush=True)


def Boot(args):
    results = {side: [] for side in args.sides}
    for run in range(args.runs):
        for side in args.sides if run % 2 == 0 else reversed(args.sides):
            settings.sandbox = side == "ours"
            vm = bench_lib.Vm(kernel=args.kernel, test_mode="poweroff")
            try:
                vm.Start()
                vm.WaitFor(r"crosvm-guest: init\n", 60)
                results[side].append(time.monotonic() - vm.started)
                vm.Wait(30)
            finally:
                vm.Close()
            print(f"{side} run {run + 1}: init after {results[side][-1]:.3f} s", flush=True)
    both = [bench_lib.Median(results[side]) if side in results else None for side in ("ours", "peer")]
    bench_lib.Table("boot, jailed against --disable-sandbox", [("to /init", *both, "s")], "lower")


LOAD = """while [ ! -e /tmp/stop ]; do
  fio --name=verify --filename=/dev/vdb --rw=randrw --bs=4k-32k --size=24M --io_size=48M --direct=1 --ioengine=libaio \\
    --iodepth=32 --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_backlog=256 --output=/tmp/fio.log ||
    { cat /tmp/fio.log >> /tmp/bad; break; }
  echo >> /tmp/rounds
done
echo > /tmp/done1
"""
TRIM = """while [ ! -e /tmp/stop ]; do
  fio --name=trim --filename=/dev/vdb --rw=randtrim --bs=64k --offset=24M --size=8M --direct=1 --ioengine=libaio \\
    --iodepth=32 --output=/tmp/trim.log || { cat /tmp/trim.log >> /tmp/bad; break; }
done
echo > /tmp/done2
"""


class Watcher:
    """When each restart was announced."""

    def __init__(self, vm):
        self._process = subprocess.Popen([settings.binary, "events", vm.socket], stdout=subprocess.PIPE, text=True)
        self._changed = threading.Condition()
        self.restarts, self.others = [], []
        threading.Thread(target=self._Read, daemon=True).start()

    def _Read(self):
        for line in self._process.stdout:
            now, event = time.monotonic(), json.loads(line)
            with self._changed:
                (self.restarts if event["kind"] == "device-restarted" else self.others).append((now, event))
                self._changed.notify_all()

    def WaitForRestart(self, count):
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.restarts) >= count, 120):
                raise SystemExit(f"restart {count} did not happen: {self.others[-3:]}")
            return self.restarts[count - 1][0]


def DiskPid(vm):
    return [p["pid"] for p in json.loads(vm.Control("ps", "--json"))["processes"] if p["name"] == "block[1]"][0]


def Kills(args):
    directory = settings.work_dir
    shutil.copyfile(bench_lib.PathOf("root"), os.path.join(directory, "root"))
    with open(os.path.join(directory, "target"), "wb") as file:
        file.truncate(32 << 20)
    vm = bench_lib.Vm(kernel=args.kernel, cpus=2, socket=True,
                      options=["-r", os.path.join(directory, "root"), "--device-restarts", "100000",
                               "--rwdisk", os.path.join(directory, "target") + ",queues=2"])
    try:
        vm.Boot(30)
        for name, text in (("load", LOAD), ("trim", TRIM)):
            vm.Check(f"echo {base64.b64encode(text.encode()).decode()} | base64 -d > /tmp/{name}.sh")
        vm.Check("sh /tmp/load.sh >/dev/null 2>&1 &")
        vm.Check("sh /tmp/trim.sh >/dev/null 2>&1 &")
        watcher, chance, stalls = Watcher(vm), random.Random(7), []
        time.sleep(2)
        for kill in range(1, args.kills + 1):
            time.sleep(chance.uniform(0.0, 0.8))
            pid = DiskPid(vm)
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            stalls.append((watcher.WaitForRestart(kill) - killed) * 1000)
            if kill % 10 == 0:
                print(f"{kill} kills, the last one took {stalls[-1]:.1f} ms", flush=True)
        vm.Check("touch /tmp/stop")
        vm.Check("while [ ! -e /tmp/done1 ] || [ ! -e /tmp/done2 ]; do sleep 0.5; done", 300)
        bad = vm.Check("cat /tmp/bad 2>/dev/null; dmesg | grep 'I/O error'; true").strip()
        rounds = vm.Check("wc -l < /tmp/rounds").strip()
        vm.PowerOff()
    finally:
        vm.Close()
    stalls.sort()

    def At(share):
        return stalls[min(len(stalls) - 1, int(share * len(stalls)))]

    print(f"{len(stalls)} kills, {rounds} verified rounds of fio, errors in the guest: {bad or 'none'}")
    print(f"from kill to re-attached, ms: min {stalls[0]:.1f}, median {At(0.5):.1f}, 90 % {At(0.9):.1f}, "
          f"99 % {At(0.99):.1f}, max {stalls[-1]:.1f}")
    return 1 if bad else 0


def Main():
    args = bench_lib.Arguments(__doc__, 5, Configure)
    if args.what == "spawn":
        return Spawn(args)
    bench_lib.Prepare(args)
    try:
        return Boot(args) if args.what == "boot" else Kills(args)
    finally:
        shutil.rmtree(settings.work_dir, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(Main())
