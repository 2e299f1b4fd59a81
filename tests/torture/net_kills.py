#!/usr/bin/env python3
"""Kills the network process again and again while a guest transfers: tests/torture/net_kills.py [--kills 100] [--kind tap|user].

Over a tap one checksummed transfer and iperf3 go on through all kills. In user mode each kill resets the streams, and a new one has to
work at once; the forward is used after each.
"""
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "bench"))
import bench_lib  # noqa: E402
import images  # noqa: E402
import settings  # noqa: E402

SERVER = "10.96.0.1"


class Source(threading.Thread):
    """Sends seeded bytes to each connection until `stop` is set; `digests` by port of the peer."""

    def __init__(self, paced):
        super().__init__(daemon=True)
        self.stop, self.paced, self.digests, self.sent = threading.Event(), paced, {}, {}
        self.listener = socket.create_server((SERVER, 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            connection, peer = self.listener.accept()
            threading.Thread(target=self.Serve, args=(connection, peer[1]), daemon=True).start()

    def Serve(self, connection, number):
        digest, total, block = hashlib.sha256(), 0, os.urandom(1 << 16)
        try:
            while not self.stop.is_set():
                connection.sendall(block)
                digest.update(block)
                total += len(block)
                if self.paced:
                    time.sleep(0.01)
        except OSError:
            pass
        connection.close()
        self.digests[number], self.sent[number] = digest.hexdigest(), total


def NetProcess(vm, name):
    deadline = time.monotonic() + 60 * settings.time_scale
    while time.monotonic() < deadline:
        for pid, command in vm.Processes():
            if name in command:
                return pid
        time.sleep(0.05)
    raise AssertionError(f"{name} did not come back:\n{vm.stderr[-3000:]}")


def Restarts(vm, name):
    return vm.stderr.count(f"device {name} was restarted")


def Kill(vm, name, count):
    """Kills `count` times, each successor once it works."""
    for number in range(1, count + 1):
        before = Restarts(vm, name)
        os.kill(NetProcess(vm, name), signal.SIGKILL)
        deadline = time.monotonic() + 60 * settings.time_scale
        while Restarts(vm, name) == before:
            if time.monotonic() > deadline:
                raise AssertionError(f"no restart after kill {number}:\n{vm.stderr[-3000:]}")
            time.sleep(0.05)
        yield number


def Tap(vm, kills):
    vm.Check(f"ip link set eth0 up && ip addr add 10.96.0.2/24 dev eth0 && ping -c 1 -W 10 {SERVER}", 30)
    source = Source(paced=True)
    server = subprocess.Popen(["iperf3", "-s", "-B", SERVER], stdout=subprocess.DEVNULL)
    try:
        vm.Check(f"(nc {SERVER} {source.port} < /dev/null | sha256sum > /tmp/digest; echo done > /tmp/done) > /dev/null 2>&1 & "
                 f"(while [ ! -e /tmp/done ]; do iperf3 -c {SERVER} -t 5; done) > /tmp/iperf 2>&1 &")
        for number in Kill(vm, "net[0]", kills):
            if number % 10 == 0:
                print(f"tap: {number} kills", flush=True)
        source.stop.set()
        vm.Check("for i in $(seq 600); do [ -e /tmp/done ] && break; sleep 0.1; done; [ -e /tmp/done ]", 120)
        got = vm.Check("cat /tmp/digest").split()[0]
        if got not in source.digests.values():
            raise AssertionError(f"the transfer was corrupted: {got}, not {source.digests}")
        print(f"tap: {max(source.sent.values())} bytes arrived unchanged through {kills} kills", flush=True)
    finally:
        server.terminate()
        server.wait()


def User(vm, kills, forward):
    vm.Check("ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && ip route add default via 10.0.2.2 && "
             "mkdir -p /tmp/www && echo content > /tmp/www/file && busybox httpd -p 80 -h /tmp/www")
    source = Source(paced=True)
    for number in Kill(vm, "net-user[0]", kills):
        # A stream that is open at the next kill, and one that must work now.
        vm.Check(f"(nc {SERVER} {source.port} < /dev/null > /dev/null 2>&1; echo ended >> /tmp/ended) &")
        vm.Check(f"nc {SERVER} {source.port} < /dev/null | head -c 65536 | wc -c | grep -q 65536", 60)
        done = subprocess.run(["curl", "-sS", "--max-time", "60", f"http://127.0.0.1:{forward}/file"], capture_output=True, text=True)
        if done.stdout != "content\n":
            raise AssertionError(f"the forward after kill {number}: {done.stderr}")
        if number % 10 == 0:
            print(f"user: {number} kills", flush=True)
    print(f"user: new streams and the forward worked after each of {kills} kills", flush=True)


def Main():
    def Configure(parser):
        parser.add_argument("--kills", type=int, default=100)
        parser.add_argument("--kind", choices=["tap", "user"], action="append")

    args = bench_lib.Arguments(__doc__, 1, Configure)
    bench_lib.Prepare(args, mem=3072)
    try:
        root = images.CopyRoot(os.path.join(settings.work_dir, "root"))
        for kind in args.kind or ["tap", "user"]:
            if kind == "user":
                subprocess.run(["ip", "addr", "replace", f"{SERVER}/32", "dev", "lo"], check=True)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                forward = probe.getsockname()[1]
            net = f"user,hostfwd=tcp::{forward}-:80" if kind == "user" else f"host-ip={SERVER},netmask=255.255.255.0"
            vm = bench_lib.Vm(kernel=args.kernel, mem=512, options=["-r", root, "--net", net, "--device-restarts", "1000"])
            try:
                vm.Boot(30)
                if kind == "user":
                    User(vm, args.kills, forward)
                else:
                    Tap(vm, args.kills)
                vm.PowerOff()
            finally:
                vm.Close()
    finally:
        shutil.rmtree(settings.work_dir, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(Main())
