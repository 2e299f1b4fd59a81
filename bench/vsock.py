#!/usr/bin/env python3
"""What the host's kernel serves: our vsock process against vhost-vsock, and vhost-net, ours against QEMU's.

sockets: one stream of --mib MiB each way between guest and host; "ours" is --vsock cid=…,path=… (a jailed process and Unix
sockets), "peer" is --cid (the host's kernel and AF_VSOCK), both in crosvm. And 500 streams opened and closed.
vhost-net: iperf3 over TCP through one tap, both ways; "ours" is crosvm --net …,vhost-net, "peer" is QEMU vhost=on.
Sides alternate in one machine; needs root or nested KVM.
"""
import json
import os
import shutil
import socket
import subprocess
import sys
import time

import bench_lib
import images
import settings
from bench_lib import PathOf
from vsock_peers import Echo, InstallPeer, MakePeerDisk, Server, UnixListener

CID, PUSH, PULL, ECHO = 60, 1, 2, 3
TAP, HOST, GUEST = "bench0", "10.78.1.1", "10.78.1.2"


def Swallow(connection):
    buffer = bytearray(1 << 18)
    while connection.recv_into(buffer):
        pass


def SocketGuest(side, args):
    """{name: figure} of one boot."""
    folder = os.path.join(settings.work_dir, "sockets")
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    block = bytes(1 << 20)

    def Pour(connection):
        for _ in range(args.mib):
            connection.sendall(block)

    servers, ports = [], {}
    for name, serve in ((PUSH, Swallow), (PULL, Pour), (ECHO, Echo)):
        if side == "ours":
            listener, ports[name] = UnixListener(os.path.join(folder, str(name))), name
        else:
            listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            listener.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
            listener.listen(64)
            ports[name] = listener.getsockname()[1]
        servers.append(Server(listener, serve))
    option = ["--vsock", f"cid={CID},path={folder}"] if side == "ours" else ["--cid", str(CID)]
    disk = os.path.join(settings.work_dir, "peer.img")
    vm = bench_lib.Vm(kernel=args.kernel, options=option, disks=[images.Disk(disk)])
    try:
        vm.Boot(30)
        InstallPeer(vm, "vda")
        figures = {}
        for name, command, amount, unit in (
                ("guest to host", f"push {ports[PUSH]} {args.mib << 20}", args.mib, "MiB/s"),
                ("host to guest", f"pull {ports[PULL]}", args.mib, "MiB/s"),
                ("streams", f"churn {ports[ECHO]} 500", 500, "per s")):
            start = time.monotonic()
            vm.Check(f"/tmp/vsock_peer {command}", 120)
            figures[name] = amount / (time.monotonic() - start)
            print(f"sockets {side}: {name}: {figures[name]:.1f} {unit}", flush=True)
        vm.PowerOff()
        return figures
    finally:
        vm.Close()
        for server in servers:
            server.Close()


def NetPeerCommand(args, root):
    return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-M", "q35", "-enable-kvm", "-cpu", "host", "-m", "384", "-smp", "1",
            "-kernel", PathOf("vmlinux", args.kernel), "-initrd", PathOf("initramfs", args.kernel),
            "-append", "console=ttyS0 reboot=t panic=-1 quiet root=/dev/vda rw crosvm.test=shell",
            "-drive", f"if=none,id=r,file={root},format=raw", "-device", "virtio-blk-pci,drive=r",
            "-netdev", f"tap,id=n,ifname={TAP},script=no,downscript=no,vhost=on", "-device", "virtio-net-pci,netdev=n,romfile=",
            "-serial", "stdio", "-display", "none", "-no-reboot"]


def NetGuest(side, args):
    root = images.CopyRoot(os.path.join(settings.work_dir, "root"))
    vm = bench_lib.SideVm(side, NetPeerCommand(args, root), kernel=args.kernel, mem=384,
                          options=["-r", root, "--net", f"tap-name={TAP},vhost-net"])
    server = subprocess.Popen(["iperf3", "-s", "-B", HOST], stdout=subprocess.DEVNULL)
    try:
        vm.Boot(30)
        vm.Check(f"ip link set eth0 up && ip addr add {GUEST}/24 dev eth0; ping -c 1 -W 5 {HOST}", 30)
        figures = {}
        for name, option in (("guest to host", ""), ("host to guest", "-R")):
            text = vm.Check(f"iperf3 -J -c {HOST} {option} -t {args.seconds} > /tmp/iperf.json && cat /tmp/iperf.json || "
                            "{ s=$?; cat /tmp/iperf.json; dmesg | tail; (exit $s); }",
                            args.seconds + 60)
            result = json.loads(text[text.index("{"):text.rindex("}") + 1])
            figures[name] = result["end"]["sum_received"]["bits_per_second"] / 1e6
            print(f"vhost-net {side}: {name}: {figures[name]:.1f} Mbit/s", flush=True)
        vm.PowerOff()
        return figures
    finally:
        vm.Close()
        server.terminate()
        server.wait()


def Alternate(args, measure):
    results = {side: [] for side in args.sides}
    for run in range(args.runs):
        for side in args.sides if run % 2 == 0 else reversed(args.sides):
            results[side].append(measure(side))
    return results


def Rows(args, results, units):
    rows = []
    for name, unit in units:
        both = [bench_lib.Median([figures[name] for figures in results[side]]) if side in results else None
                for side in ("ours", "peer")]
        rows.append((name, *both, unit))
    return rows


def Configure(parser):
    parser.add_argument("--mib", type=int, default=64, help="MiB of each stream (default 64)")
    parser.add_argument("--seconds", type=int, default=5, help="of each iperf3 run (default 5)")
    parser.add_argument("--part", choices=["sockets", "net"], help="only this part")


def Main():
    args = bench_lib.Arguments(__doc__, 3, Configure)
    bench_lib.Prepare(args, mem=4096)
    try:
        if args.part != "net":
            MakePeerDisk(os.path.join(settings.work_dir, "peer.img"))
            results = Alternate(args, lambda side: SocketGuest(side, args))
            bench_lib.Table("sockets: the vsock process (ours) and vhost-vsock (peer)",
                            Rows(args, results, (("guest to host", "MiB/s"), ("host to guest", "MiB/s"), ("streams", "per s"))),
                            "higher")
        if args.part != "sockets":
            for command in (["tuntap", "add", TAP, "mode", "tap", "vnet_hdr"], ["addr", "add", f"{HOST}/24", "dev", TAP],
                            ["link", "set", TAP, "up"]):
                subprocess.run(["ip", *command], check=True)
            results = Alternate(args, lambda side: NetGuest(side, args))
            bench_lib.Table("vhost-net: crosvm (ours) and QEMU (peer)",
                            Rows(args, results, (("guest to host", "Mbit/s"), ("host to guest", "Mbit/s"))), "higher")
    finally:
        shutil.rmtree(settings.work_dir, ignore_errors=True)
        subprocess.run(["ip", "link", "del", TAP], stderr=subprocess.DEVNULL)
    return 0


if __name__ == "__main__":
    sys.exit(Main())
