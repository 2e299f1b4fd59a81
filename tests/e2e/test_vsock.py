"""Virtual sockets over Unix sockets of the host (--vsock cid=…,path=…)."""
import hashlib
import json
import os
import signal
import socket
import subprocess
import threading
import time

import images
import settings
from e2e import E2eTest, EachKernel
from vsock_peers import Dial, Echo, InstallPeer, MakePeerDisk, Server, UnixListener

ECHO, SINK, GUEST = 1024, 1025, 2000


@EachKernel
class Vsock(E2eTest):
    """One VM with the guest's peer, an echo server on either side."""

    ordered = True

    def setUp(self):
        self.servers = []

    def tearDown(self):
        for server in self.servers:
            server.Close()

    def Serve(self, port, serve, backlog=16):
        path = os.path.join(self.folder, str(port))
        if os.path.exists(path):
            os.unlink(path)
        server = Server(UnixListener(path, backlog), serve)
        self.servers.append(server)
        return server

    @property
    def folder(self):
        return self.Path("sockets")

    def Dial(self, port=GUEST):
        return Dial(os.path.join(self.folder, "connect"), port)

    def test_01_boots(self):
        os.mkdir(self.folder)
        MakePeerDisk(self.Path("peer"))
        vm = self.Vm(socket=True, options=["--vsock", f"cid=7,path={self.folder}", "--device-restarts", "1000"],
                     disks=[images.Disk(self.Path("peer"))])
        vm.Boot(20)
        type(self).shared = vm
        InstallPeer(vm, "vda")
        vm.Check(f"(/tmp/vsock_peer echo {GUEST} > /tmp/echo.log 2>&1 &); "
                 "while ! grep -q serving /tmp/echo.log; do sleep 0.1; done")

    def test_02_a_thousand_streams_of_the_guest(self):
        server = self.Serve(ECHO, Echo)
        self.assertIn("1000 streams", self.Shared().Check(f"/tmp/vsock_peer churn {ECHO} 1000", 60))
        self.assertEqual(server.connections, 1000)

    def test_03_many_at_once_from_the_guest(self):
        # A short queue of the listener: streams wait for it.
        self.Serve(ECHO, Echo, backlog=2)
        self.assertIn("64 streams", self.Shared().Check(f"/tmp/vsock_peer parallel {ECHO} 64 65536", 60))

    def test_04_a_hundred_streams_of_the_host(self):
        for i in range(100):
            with self.Dial() as connection:
                connection.sendall(bytes([i]))
                self.assertEqual(connection.recv(1), bytes([i]))

    def test_05_many_at_once_from_the_host(self):
        problems = []

        def One(seed):
            data = hashlib.sha512(bytes([seed])).digest() * 1024
            try:
                with self.Dial() as connection:
                    writer = threading.Thread(target=lambda: (connection.sendall(data),
                                                              connection.shutdown(socket.SHUT_WR)))
                    writer.start()
                    back = b""
                    while part := connection.recv(1 << 16):
                        back += part
                    writer.join()
                if back != data:
                    problems.append(f"stream {seed}: {len(back)} bytes came back")
            except OSError as error:
                problems.append(f"stream {seed}: {error!r}")

        threads = [threading.Thread(target=One, args=(seed,)) for seed in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(problems, [])

    def test_06_half_closed(self):
        seen = []

        def CountThenAnswer(connection):
            digest = hashlib.sha256()
            while data := connection.recv(1 << 16):
                digest.update(data)
            seen.append(digest.hexdigest())
            connection.sendall(b"after your end: " + digest.hexdigest().encode())

        self.Serve(SINK, CountThenAnswer)
        output = self.Shared().Check(f"dd if=/dev/urandom of=/tmp/data bs=64k count=32 2>/dev/null; sha256sum /tmp/data; "
                                     f"/tmp/vsock_peer pipe {SINK} < /tmp/data", 60)
        self.assertEqual(output.split()[0], seen[0])
        self.assertIn(f"after your end: {seen[0]}", output)

    def test_07_nobody_listens(self):
        status, output = self.Shared().Shell("/tmp/vsock_peer pipe 9 < /dev/null")
        self.assertEqual(status, 1)
        self.assertIn("reset", output)
        with self.assertRaises(ConnectionRefusedError):
            self.Dial(9)

    def test_08_a_peer_that_dies(self):
        gone = threading.Event()

        def Die(connection):
            gone.wait()

        self.Serve(SINK, Die)
        self.Shared().Check(f"(/tmp/vsock_peer hold {SINK} > /tmp/hold 2>&1 &); "
                            "while ! grep -q held /tmp/hold; do sleep 0.1; done")
        gone.set()
        self.Shared().Check("while ! grep -q 'ended: closed' /tmp/hold; do sleep 0.1; done")
        # The other way round: the guest's program is killed.
        ended = threading.Event()
        self.Serve(SINK, lambda connection: connection.recv(1) or ended.set())
        self.Shared().Check(f"/tmp/vsock_peer hold {SINK} > /tmp/hold 2>&1 & while ! grep -q held /tmp/hold; do sleep 0.1; done; "
                            "kill -9 $!; wait $! 2>/dev/null; true")
        self.assertTrue(ended.wait(20 * settings.time_scale))

    def test_08_crosvm_vsock_connect(self):
        done = subprocess.run([settings.binary, "vsock", "connect", self.folder, str(GUEST)], input=b"through a pipe",
                              capture_output=True, timeout=20 * settings.time_scale)
        self.assertEqual((done.returncode, done.stdout), (0, b"through a pipe"), done.stderr)
        done = subprocess.run([settings.binary, "vsock", "connect", os.path.join(self.folder, "connect"), "9"],
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=20 * settings.time_scale)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"port 9", done.stderr)

    def test_09_the_process_sees_its_folder_only(self):
        self.assertEqual(set(os.listdir(f"/proc/{self.Device()['pid']}/root")), set(os.listdir(self.folder)))
        # A link out of the folder leads nowhere.
        outside = self.Path("outside")
        server = Server(UnixListener(outside), Echo)
        self.addCleanup(server.Close)
        os.symlink(outside, os.path.join(self.folder, "1100"))
        status, output = self.Shared().Shell("/tmp/vsock_peer churn 1100 1")
        self.assertEqual(status, 1, output)
        self.assertEqual(server.connections, 0)

    def test_10_killed(self):
        vm = self.Shared()
        self.Serve(ECHO, Echo)
        self.Serve(SINK, Echo)
        for _ in range(int(os.environ.get("CROSVM_E2E_KILLS", "3"))):
            vm.Check(f"(/tmp/vsock_peer hold {SINK} > /tmp/hold 2>&1 &); "
                     "while ! grep -q held /tmp/hold; do sleep 0.1; done")
            with self.Dial() as connection:
                before = self.Device()
                os.kill(before["pid"], signal.SIGKILL)
                self.assertEqual(connection.recv(1), b"")
            # Streams are gone at once; new ones work.
            self.assertIn("5 streams", vm.Check(
                f"i=0; while ! /tmp/vsock_peer churn {ECHO} 5; do i=$((i+1)); [ $i -lt 50 ] || exit 1; sleep 0.1; done", 30))
            vm.Check("while ! grep -q 'ended:' /tmp/hold; do sleep 0.1; done; grep -q ECONNRESET /tmp/hold")
            with self.Dial() as connection:
                connection.sendall(b"again")
                self.assertEqual(connection.recv(5), b"again")
            self.assertEqual(self.Device()["restarts"], before["restarts"] + 1)

    def Device(self):
        deadline = time.monotonic() + 20 * settings.time_scale
        while time.monotonic() < deadline:
            device = [p for p in json.loads(self.Shared().Control("ps", "--json"))["processes"]
                      if p["name"] == "vsock[0]"][0]
            if device["state"] == "running":
                return device
            time.sleep(0.05)
        self.fail(f"the device is {device['state']}")

    def test_11_suspended(self):
        vm = self.Shared()
        self.Serve(ECHO, Echo)
        with self.Dial() as connection:
            vm.Control("suspend")
            vm.Control("resume")
            connection.sendall(b"still there")
            self.assertEqual(connection.recv(11), b"still there")
        self.assertIn("10 streams", vm.Check(f"/tmp/vsock_peer churn {ECHO} 10", 30))
        with self.Dial() as connection:
            connection.sendall(b"awake")
            self.assertEqual(connection.recv(5), b"awake")

    def test_12_rebind_the_driver(self):
        vm = self.Shared()
        self.Serve(ECHO, Echo)
        vm.Check("pkill vsock_peer; cd /sys/bus/virtio/drivers/vmw_vsock_virtio_transport && d=$(ls -d virtio*) && "
                 "echo $d > unbind && echo $d > bind", 30)
        self.assertIn("10 streams", vm.Check(f"/tmp/vsock_peer churn {ECHO} 10", 30))

    def test_13_one_vm_a_folder(self):
        output = self.RunCrosvm("run", "--vsock", f"cid=8,path={self.folder}", self.Path("peer"), status=1)
        self.assertIn("another VM has this folder", output)

    def test_14_powers_off(self):
        self.Shared().PowerOff()
        self.assertFalse(os.path.exists(os.path.join(self.folder, "connect")))


class VsockSocat(E2eTest):
    """socat in the guest, and a VM without a jail."""

    def test_both_ways(self):
        folder = self.Path("sockets")
        os.mkdir(folder)
        server = Server(UnixListener(os.path.join(folder, "1024")), Echo)
        images.CopyRoot(self.Path("root"))
        vm = self.Vm(options=["-r", self.Path("root"), "--disable-sandbox", "--vsock", f"cid=7,path={folder}"])
        vm.Boot(20)
        vm.Check("modprobe vmw_vsock_virtio_transport 2>/dev/null; [ -e /dev/vsock ]")
        self.assertIn("said by socat", vm.Check("echo said by socat | socat -t 5 - VSOCK-CONNECT:2:1024", 30))
        vm.Check("(socat VSOCK-LISTEN:2000,fork EXEC:'tr a-z A-Z' > /dev/null 2>&1 &); sleep 1")
        with Dial(os.path.join(folder, "connect"), 2000) as connection:
            connection.sendall(b"in capitals")
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(100):
                answer += part
        self.assertEqual(answer, b"IN CAPITALS")
        server.Close()
        vm.PowerOff()


class VsockErrors(E2eTest):
    """What goes wrong before a guest runs."""

    def test_errors_say_what_to_do(self):
        for option, words in ((f"cid=7,path={self.Path('none')}", "make it"), ("cid=2,path=/tmp", "3 to"),
                              ("cid=4294967295,path=/tmp", "4294967294"), ("cid=7,way=/tmp", "path")):
            output = self.RunCrosvm("run", "--vsock", option, self.directory, status=35 if "path=/tmp" in option
                                    or "way" in option else 1)
            self.assertIn(words, output)
