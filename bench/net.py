#!/usr/bin/env python3
"""Network speed of the guest: ours against QEMU's virtio-net-pci, over a tap (vhost=off) and in user mode.

iperf3 both ways, one stream and four, and requests of one byte with answers of one byte over one connection (sockperf-style, by
socat and a server of Python's). The server is at an address of the machine that runs the VMs.
"""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading

import bench_lib
import images
import settings
from bench_lib import PathOf

MAC = "02:00:00:00:0a:01"
SERVER = "10.97.0.1"


class Echo(threading.Thread):
    """Answers each byte with a byte."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server((SERVER, 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.Serve, args=(connection,), daemon=True).start()

    def Serve(self, connection):
        with connection:
            while data := connection.recv(1):
                connection.sendall(data)


def Ip(*words):
    subprocess.run(["ip", *words], check=True)


def MakeTap(name, number):
    Ip("tuntap", "add", "mode", "tap", "name", name)
    Ip("addr", "add", f"10.97.{number}.1/24", "dev", name)
    Ip("link", "set", name, "up")


def PeerCommand(kind, kernel, root):
    netdev = "user,id=n" if kind == "user" else "tap,id=n,ifname=peer0,script=no,downscript=no,vhost=off"
    return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-M", "q35", "-enable-kvm", "-cpu", "host", "-m", "512", "-smp", "1",
            "-kernel", PathOf("vmlinux", kernel), "-initrd", PathOf("initramfs", kernel),
            "-append", "console=ttyS0 reboot=t panic=-1 quiet root=/dev/vda ro crosvm.test=shell",
            "-drive", f"if=none,id=r,file={root},format=raw,readonly=on", "-device", "virtio-blk-pci,drive=r",
            "-netdev", netdev, "-device", f"virtio-net-pci,netdev=n,mac={MAC}",
            "-serial", "stdio", "-display", "none", "-no-reboot"]


def Iperf(vm, more, seconds):
    text = vm.Check(f"iperf3 -c {SERVER} -t {seconds} -O 1 {more} --json > /tmp/iperf.json; cat /tmp/iperf.json", seconds + 60)
    end = json.loads(text[text.index("{"):])["end"]
    return end["sum_received"]["bits_per_second"] / 1e6


def Requests(vm, port, seconds):
    """Round trips a second of one byte each; the guest's side is a loop of bash, which both sides have."""
    script = (f"exec 3<>/dev/tcp/{SERVER}/{port}; n=0; end=$((SECONDS+{seconds})); "
              "while [ $SECONDS -lt $end ]; do printf x >&3; read -r -N 1 -u 3 c; n=$((n+1)); done; echo count $n")
    text = vm.Check(f"bash -c '{script}'", seconds + 60)
    return int(re.search(r"count (\d+)", text).group(1)) / seconds


def OneGuest(side, kind, args, root, echo):
    tap = "ours0" if side == "ours" else "peer0"
    net = "user" if kind == "user" else f"tap-name={tap},mac={MAC}"
    number = 1 if side == "ours" else 2
    vm = bench_lib.SideVm(side, PeerCommand(kind, args.kernel, root), kernel=args.kernel, mem=512,
                          options=["-r", root, "--net", net])
    try:
        vm.Boot(30)
        if kind == "user":
            vm.Check("ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && ip route add default via 10.0.2.2")
        else:
            vm.Check(f"ip link set eth0 up && ip addr add 10.97.{number}.2/24 dev eth0 && "
                     f"ip route add default via 10.97.{number}.1")
        # Slow hosts only: neighbours are found before the clock runs.
        vm.Check(f"for i in 1 2 3 4 5; do ping -c 1 -W 2 {'10.0.2.2' if kind == 'user' else SERVER} > /dev/null && break; done", 30)
        figures = {}
        for name, more in (("guest to host", ""), ("host to guest", "-R"), ("guest to host, 4 streams", "-P 4"),
                           ("host to guest, 4 streams", "-R -P 4")):
            figures[name] = Iperf(vm, more, args.seconds)
            print(f"{side}: {kind}: {name}: {figures[name]:.0f} Mbit/s", flush=True)
            if args.calls and side == "ours":
                CountCalls(vm, kind, more, args)
        figures["requests"] = Requests(vm, echo.port, args.seconds)
        print(f"{side}: {kind}: requests: {figures['requests']:.0f}/s", flush=True)
        if args.calls and side == "ours":
            CountCalls(vm, kind, None, args, echo)
        vm.PowerOff()
        return figures
    finally:
        vm.Close()


def CountCalls(vm, kind, more, args, echo=None):
    """System calls of the net process during one more run, and frames by its own counters."""
    pid = next(pid for pid, command in vm.Processes() if f"net{'-user' if kind == 'user' else ''}[0]" in command)
    out = os.path.join(settings.work_dir, "strace")
    strace = subprocess.Popen(["strace", "-c", "-f", "-o", out, "-p", str(pid)], stderr=subprocess.DEVNULL)
    if echo:
        rate = Requests(vm, echo.port, 3)
        print(f"  {rate * 3:.0f} requests under strace", flush=True)
    else:
        print(f"  {Iperf(vm, more, 3) * 4e6 / 8 / 1e6:.0f} MB under strace", flush=True)
    strace.terminate()
    strace.wait()
    with open(out, encoding="utf-8") as file:
        print("  " + "  ".join(line for line in file.readlines()[2:10]), flush=True)


def Configure(parser):
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement (default 5)")
    parser.add_argument("--kind", choices=["tap", "user"], action="append", help="only this one")
    parser.add_argument("--calls", action="store_true", help="count the system calls of our net process too")


def Main():
    args = bench_lib.Arguments(__doc__, 2, Configure)
    bench_lib.Prepare(args, mem=4096)
    kinds = args.kind or ["tap", "user"]
    Ip("addr", "replace", f"{SERVER}/32", "dev", "lo")
    server = subprocess.Popen(["iperf3", "-s", "-B", SERVER], stdout=subprocess.DEVNULL)
    taps = []
    try:
        if "tap" in kinds:
            for name, number in (("ours0", 1), ("peer0", 2)):
                MakeTap(name, number)
                taps.append(name)
        echo = Echo()
        root = images.CopyRoot(os.path.join(settings.work_dir, "root"))
        results = {}
        for kind in kinds:
            for run in range(args.runs):
                for side in args.sides if run % 2 == 0 else list(reversed(args.sides)):
                    results.setdefault((kind, side), []).append(OneGuest(side, kind, args, root, echo))
    finally:
        server.terminate()
        server.wait()
        for name in taps:
            subprocess.run(["ip", "link", "del", name])
        shutil.rmtree(settings.work_dir, ignore_errors=True)
    for kind in kinds:
        rows = []
        names = next(iter(results.values()))[0].keys()
        for name in names:
            both = [bench_lib.Median([figures[name] for figures in results[(kind, side)]]) if (kind, side) in results else None
                    for side in ("ours", "peer")]
            rows.append((name, *both, "1/s" if name == "requests" else "Mbit/s"))
        bench_lib.Table(f"network, {kind}", rows, "higher")
    return 0


if __name__ == "__main__":
    sys.exit(Main())
