"""Shared directories over virtio-fs: the root file system, cache modes, access control, restarts, isolation."""
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time

import images
import settings
from e2e import E2eTest, EachKernel
from guest_paths import PathOf

MIB = 1 << 20
PROGRAM = os.path.join(os.path.dirname(os.path.realpath(__file__)), "programs", "map_file.c")
AS_USER = os.path.join(os.path.dirname(os.path.realpath(__file__)), "programs", "as_user.c")


class ShareTest(E2eTest):
    """A share of its own on a memory file system of the host."""

    keys = "cache=auto"
    ordered = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.share = tempfile.mkdtemp(prefix="share-", dir="/dev/shm")

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.share, ignore_errors=True)

    def Host(self, *names):
        return os.path.join(self.share, *names)

    def BootWith(self, keys=None, root=True, more=(), **options):
        words = ["--shared-dir", f"{self.share}:data:type=fs:{keys or self.keys}", *more]
        if root:
            images.CopyRoot(self.Path("root"))
            words = ["-r", self.Path("root"), *words]
        options.setdefault("mem", 320)
        vm = self.Vm(options=words, **options)
        vm.Boot(25)
        type(self).shared = vm
        return vm

    def Mount(self, place="/mnt", tag="data", options="rw"):
        self.Shared().Check(f"mkdir -p {place} && mount -t virtiofs -o {options} {tag} {place}")


@EachKernel
class SharedRoot(ShareTest):
    """`--shared-dir DIR:TAG:type=fs:cache=always -p "rootfstype=virtiofs root=TAG"`, with the jail."""

    quick = True

    def test_1_boot(self):
        subprocess.run(["/sbin/debugfs", "-R", f"rdump / {self.share}", PathOf("root")], check=True,
                       capture_output=True)
        os.makedirs(self.Host("mnt"), exist_ok=True)
        vm = self.Vm(options=["--shared-dir", f"{self.share}:mtdfake:type=fs:cache=always"],
                     params="rootfstype=virtiofs root=mtdfake rw", mem=320)
        vm.Boot(25)
        type(self).shared = vm
        self.assertIn("mtdfake / virtiofs rw", vm.Check("cat /proc/mounts"))

    def test_2_files(self):
        vm = self.Shared()
        vm.Check("mkdir /work && cd /work && echo hello > a && ln -s a b && ln a c && mkfifo d && chmod 640 a")
        self.assertEqual(vm.Check("cat /work/b /work/c"), "hello\nhello\n")
        self.assertEqual(stat.S_IMODE(os.stat(self.Host("work/a")).st_mode), 0o640)
        self.assertEqual(os.readlink(self.Host("work/b")), "a")
        self.assertTrue(stat.S_ISFIFO(os.stat(self.Host("work/d")).st_mode))
        self.assertEqual(os.stat(self.Host("work/a")).st_nlink, 2)

    def test_3_users(self):
        self.Shared().Check("chown 1000:2000 /work/a && chmod 777 /work && "
                            "su -s /bin/sh nobody -c 'echo mine > /work/mine' || true; "
                            "chown 7:8 /work/mine 2>/dev/null || echo x > /work/mine")
        status = os.stat(self.Host("work/a"))
        self.assertEqual((status.st_uid, status.st_gid), (1000, 2000))

    def test_4_many(self):
        vm = self.Shared()
        vm.Check("cd /work && mkdir many && for i in $(seq 1 60); do echo $i > many/f$i; done", 60)
        self.assertEqual(len(os.listdir(self.Host("work/many"))), 60)
        self.assertEqual(vm.Check("cat /work/many/* | awk '{s+=$1} END {print s}'", 60).strip(), "1830")
        vm.Check("mv /work/many /work/other && rm -r /work/other", 60)
        self.assertFalse(os.path.exists(self.Host("work/other")))

    def test_5_power_off(self):
        self.Shared().PowerOff()


class SharedDirs(ShareTest):
    """Several shares of one VM: cache modes, read-only, attributes, lists, locks, a second mount."""

    quick = True

    def test_1_boot(self):
        words = []
        for name, keys in (("never", "cache=never"), ("always", "cache=always:timeout=1"),
                           ("back", "writeback=true:cache=always"), ("ro", "ro"), ("acl", "posix_acl:queues=2")):
            os.mkdir(self.Host(name))
            with open(self.Host(name, "file"), "w", encoding="ascii") as file:
                file.write("before\n")
            words += ["--shared-dir", f"{self.Host(name)}:{name}:type=fs:{keys}"]
        vm = self.BootWith("timeout=1", more=words, cpus=2)
        for name in ("never", "always", "back", "acl"):
            self.Mount(f"/tmp/m/{name}", name)
        self.Mount("/tmp/m/ro", "ro", "ro")
        self.Mount("/tmp/m/all", "data")
        self.assertEqual(vm.Check("cat /tmp/m/*/file | uniq -c").split(), ["5", "before"])

    def test_2_changes_of_the_host(self):
        vm = self.Shared()
        for name in ("never", "always", "acl"):
            with open(self.Host(name, "file"), "w", encoding="ascii") as file:
                file.write("after the change\n")
            with open(self.Host(name, "new"), "w", encoding="ascii") as file:
                file.write("new\n")
        self.assertEqual(vm.Check("cat /tmp/m/never/file /tmp/m/never/new"), "after the change\nnew\n")
        # Names and attributes are valid for a second at the most.
        vm.Check("sleep 1.2; for i in always acl; do stat /tmp/m/$i/new; done")
        self.assertEqual(vm.Check("stat -c %s /tmp/m/always/file /tmp/m/acl/file").split()[0], "17")

    def test_3_read_only(self):
        vm = self.Shared()
        for command in ("touch /tmp/m/ro/x", "rm /tmp/m/ro/file", "echo x > /tmp/m/ro/file"):
            self.assertNotEqual(vm.Shell(command)[0], 0)
        # The share refuses, not the mount option alone.
        status, output = vm.Shell("mount -o remount,rw /tmp/m/ro; touch /tmp/m/ro/x")
        self.assertNotEqual(status, 0)
        self.assertIn("Read-only file system", output)
        self.assertEqual(os.listdir(self.Host("ro")), ["file"])

    def test_4_data(self):
        vm = self.Shared()
        for name in ("never", "always", "back", "acl"):
            digest = images.Random(self.Host(name, "random"), 3 * MIB + 17, 7)
            self.assertEqual(vm.Check(f"sha256sum /tmp/m/{name}/random", 60).split()[0], digest)
            copied = vm.Check(f"cd /tmp/m/{name} && dd if=random of=copy bs=77777 2>/dev/null && sync && sha256sum copy",
                              60).split()[0]
            self.assertEqual(copied, digest)
            self.assertEqual(images.Sha256(self.Host(name, "copy")), digest)

    def test_5_attributes_and_lists(self):
        vm = self.Shared()
        vm.Check("setfattr -n user.color -v green /tmp/m/acl/file")
        self.assertEqual(os.getxattr(self.Host("acl", "file"), "user.color"), b"green")
        self.assertIn("green", vm.Check("getfattr -d /tmp/m/acl/file"))
        vm.Check("setfacl -m u:1000:rw /tmp/m/acl/file && setfacl -d -m g:50:rx /tmp/m/acl && mkdir /tmp/m/acl/below")
        self.assertIn("user:1000:rw-", vm.Check("getfacl -n /tmp/m/acl/file"))
        self.assertIn("default:group:50:r-x", vm.Check("getfacl -n /tmp/m/acl/below"))

    def test_6_locks(self):
        # Between processes of the guest; its kernel keeps them.
        shutil.copy("/usr/bin/flock", self.Host("flock"))
        self.Shared().Check("cd /tmp/m/acl; F=/tmp/m/all/flock; ($F -x 9; sleep 3) 9> lock & sleep 1; "
                            "! $F -n -x lock true && $F -x lock true", 30)

    def test_7_times_and_sizes(self):
        vm = self.Shared()
        vm.Check("cd /tmp/m/acl && touch -d '2001-02-03 04:05:06' old && truncate -s 1M old && chmod 4711 old")
        status = os.stat(self.Host("acl", "old"))
        self.assertEqual(status.st_size, MIB)
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o4711)
        vm.Check("cd /tmp/m/acl && fallocate -l 64K blocks && cp blocks copied && sync blocks && sync -d copied && "
                 "cmp blocks copied && setfattr -n user.x -v 1 copied && setfattr -x user.x copied", 30)
        subprocess.run(["cc", "-static", "-O1", "-o", self.Host("as_user"), AS_USER], check=True)
        vm.Check("mkdir -m 777 /tmp/m/never/open && /tmp/m/all/as_user 1000 1001 sh -c 'echo mine >/tmp/m/never/open/mine'")
        there = os.stat(self.Host("never", "open", "mine"))
        self.assertEqual((there.st_uid, there.st_gid), (1000, 1001))
        self.assertGreaterEqual(os.stat(self.Host("acl", "blocks")).st_blocks, 128)
        vm.Check("cd /tmp/m/acl && exec 8<>gone && rm gone && echo here >&8 && stat -L -c %s /proc/self/fd/8 && exec 8>&-")

    def test_8_unmount_and_rebind(self):
        vm = self.Shared()
        vm.Check("cd / && umount /tmp/m/*", 30)
        vm.Check("cd /sys/bus/virtio/drivers/virtiofs && for d in virtio*; do echo $d > unbind && echo $d > bind; done", 30)
        self.Mount("/tmp/m/never", "never")
        self.Mount("/tmp/m/acl", "acl")
        vm.Check("cat /tmp/m/never/file /tmp/m/acl/file")

    def test_9_power_off(self):
        self.Shared().PowerOff()


class SharedDirRestart(ShareTest):
    """The process of a share is killed under load; the guest sees a delay."""

    def Kill(self):
        for pid, command in self.Shared().Processes():
            if "fs[0]" in command:
                os.kill(pid, signal.SIGKILL)
                return pid
        self.fail("there is no process of the share")

    def test_1_boot(self):
        self.BootWith("cache=never")
        self.Mount()  # /mnt is there on the read-only root disk

    def test_2_open_files_and_nodes_stay(self):
        vm = self.Shared()
        vm.Check("cd /mnt && mkdir -p a/b && echo one > a/b/file && exec 7<a/b/file && exec 8<>unnamed && "
                 "echo kept >&8 && rm unnamed")
        before = self.Kill()
        vm.Check("cd /mnt/a/b && cat <&7 && echo more >&8 && stat -L -c %s /proc/self/fd/8", 60)
        self.assertEqual(vm.Check("stat -L -c %s /proc/$$/fd/8; exec 7<&-; exec 8>&-; cat /mnt/a/b/file").split(),
                         ["10", "one"])
        self.assertNotIn(before, [pid for pid, _ in vm.Processes()])

    def test_3_killed_under_load(self):
        vm = self.Shared()
        digest = images.Random(self.Host("source"), 4 * MIB, 11)
        vm.Send("9999 (cd /mnt; for i in 1 2 3; do mkdir d$i && dd if=source of=d$i/copy bs=64k 2>/dev/null && "
                "mv d$i/copy d$i/moved && ln d$i/moved d$i/link && mv d$i e$i || echo FAILED; done; echo > finished) "
                "> /tmp/load.log 2>&1 &\n")
        kills = 0
        deadline = time.monotonic() + 100
        for name in ("d1", "d2", "d3"):
            while not os.path.exists(self.Host(name)) and not os.path.exists(self.Host("e" + name[1])):
                if time.monotonic() > deadline:
                    self.fail("the load does not get on: " + vm.Check("cat /tmp/load.log"))
                time.sleep(0.02)
            if kills < 2:
                self.Kill()
                kills += 1
        vm.Check("for i in $(seq 1 600); do [ -e /mnt/finished ] && break; sleep 0.1; done; cat /tmp/load.log; "
                 "[ -e /mnt/finished ] && ! [ -s /tmp/load.log ]", 100)
        for i in (1, 2, 3):
            self.assertEqual(sorted(os.listdir(self.Host(f"e{i}"))), ["link", "moved"])
            self.assertEqual(images.Sha256(self.Host(f"e{i}", "link")), digest)

    def test_4_power_off(self):
        self.Shared().PowerOff()


class DaxTest(ShareTest):
    """A share with a DAX window, and a program in the guest that maps files of it."""

    def BootWithDax(self, window=16, mount="dax", timeout=1, **options):
        subprocess.run(["gcc", "-O1", "-static", "-o", self.Host("map_file"), PROGRAM], check=True)
        vm = self.BootWith(f"cache=auto:timeout={timeout}:dax=always:dax-window={window}", **options)
        self.Mount(options=f"rw,{mount}")
        # Of a file system without DAX, so that it does not take ranges of the window itself.
        vm.Check("cp /mnt/map_file /tmp/map_file && chmod 755 /tmp/map_file")
        return vm

    def Write(self, name, data):
        with open(self.Host(name), "wb") as file:
            file.write(data)

    def Read(self, name, offset=0, size=-1):
        with open(self.Host(name), "rb") as file:
            file.seek(offset)
            return file.read(size)

    def Open(self, name, number):
        """Maps a file of the share in a process of the guest that goes on: descriptor `number` and the next talk to it."""
        self.Shared().Check(f"rm -f /tmp/in{number} /tmp/out{number}; mkfifo /tmp/in{number} /tmp/out{number}; "
                            f"(/tmp/map_file /mnt/{name} < /tmp/in{number} > /tmp/out{number} 2>&1 &); "
                            f"exec {number}> /tmp/in{number} {number + 1}< /tmp/out{number}")

    def Ask(self, number, line, timeout=30):
        return self.Shared().Check(f"echo {line} >&{number}; read -r answer <&{number + 1}; echo $answer",
                                   timeout).strip()

    def Close(self, number):
        self.Shared().Check(f"exec {number}>&- {number + 1}<&-")


@EachKernel
class Dax(DaxTest):
    """`dax=always`: files of the host in the guest's memory, more of them than fit the window; crash, remount, reset."""

    def test_1_boot(self):
        vm = self.BootWithDax(cpus=2)
        self.assertIn("dax=always", vm.Check("grep virtiofs /proc/mounts"))

    def test_2_read(self):
        vm = self.Shared()
        digest = images.Random(self.Host("large"), 40 * MIB + 17, 5)  # the window has 16 MiB
        self.assertEqual(vm.Check("sha256sum /mnt/large", 90).split()[0], digest)
        digest = images.Random(self.Host("small"), 12345, 6)
        self.assertEqual(vm.Check("sha256sum /mnt/small", 30).split()[0], digest)

    def test_3_write(self):
        vm = self.Shared()
        digest = vm.Check("cd /mnt && dd if=large of=copy bs=300k 2>/dev/null && sync && sha256sum copy && cd /",
                          90).split()[0]
        self.assertEqual(images.Sha256(self.Host("copy")), digest)
        self.assertEqual(images.Sha256(self.Host("large")), digest)
        vm.Check("cd /mnt && echo 1 > log && echo 2 >> log && echo 3 >> log && cd /")
        self.assertEqual(self.Read("log"), b"1\n2\n3\n")
        vm.Check("rm /mnt/copy")

    def test_4_shared_mappings(self):
        self.Write("shared", b"a" * 3 * MIB)
        self.Open("shared", 4)
        self.assertEqual(self.Ask(4, "get 0 4"), "aaaa")
        self.assertEqual(self.Ask(4, "put 1000 guest"), "done")
        # Nobody was asked to write anything back: it is the host's own page.
        self.assertEqual(self.Read("shared", 998, 9), b"aaguestaa")
        with open(self.Host("shared"), "r+b") as file:
            file.seek(2 * MIB + 5)
            file.write(b"host")
        self.assertEqual(self.Ask(4, f"get {2 * MIB + 4} 6"), "ahosta")
        with open(self.Host("shared"), "r+b") as file:
            file.seek(2 * MIB + 5)
            file.write(b"HOST")
        self.assertEqual(self.Ask(4, f"get {2 * MIB + 4} 6"), "aHOSTa")

    def test_5_truncated_by_the_guest(self):
        vm = self.Shared()
        vm.Check("truncate -s 4096 /mnt/shared")
        self.assertEqual(os.stat(self.Host("shared")).st_size, 4096)
        self.assertEqual(self.Ask(4, "get 8192 4"), "SIGBUS")
        self.assertEqual(self.Ask(4, "get 1000 5"), "guest")
        vm.Check("truncate -s 1M /mnt/shared")
        self.assertEqual(self.Ask(4, "get 8192 4"), "....")
        self.assertEqual(self.Ask(4, "put 8192 again"), "done")
        self.assertEqual(self.Read("shared", 8190, 7), b"\0\0again")

    def test_6_without_a_name(self):
        self.Shared().Check("rm /mnt/shared")
        self.assertEqual(self.Ask(4, "get 8192 5"), "again")
        self.Close(4)

    def test_7_many_files(self):
        vm = self.Shared()
        os.mkdir(self.Host("many"))
        for i in range(40):  # eight fit the window
            self.Write(f"many/f{i:02}", b"file %02d\n" % i)
        expected = "".join(f"file {i:02}\n" for i in range(40))
        self.assertEqual(vm.Check("cat /mnt/many/*", 60), expected)
        vm.Check("for f in /mnt/many/*; do echo more >> $f; done", 60)
        self.assertEqual(self.Read("many/f39"), b"file 39\nmore\n")
        # All of them at once, each with a range of its own.
        vm.Check("for f in /mnt/many/*; do cat $f > /tmp/sum.${f##*/} & done; wait; cat /tmp/sum.* | wc -l | grep -qx 80", 60)

    def test_8_killed_while_mapped(self):
        vm = self.Shared()
        self.Write("kept", b"k" * 5 * MIB)
        self.Open("kept", 4)
        self.assertEqual(self.Ask(4, "get 0 3"), "kkk")
        for pid, command in vm.Processes():
            if "fs[0]" in command:
                os.kill(pid, signal.SIGKILL)
        # What is mapped stays; what is not is asked of the successor.
        self.assertEqual(self.Ask(4, "put 10 one"), "done")
        self.assertEqual(self.Ask(4, f"put {4 * MIB} two", 60), "done")
        self.assertEqual(self.Read("kept", 10, 3), b"one")
        self.assertEqual(self.Read("kept", 4 * MIB, 3), b"two")
        if settings.sandbox:
            self.assertIn("was restarted", vm.stderr)
        self.Close(4)

    def test_9_remount_reset_and_power_off(self):
        vm = self.Shared()
        vm.Check("cd / && umount /mnt && mount -t virtiofs data /mnt && cat /mnt/many/f01", 30)
        vm.Check("umount /mnt && cd /sys/bus/virtio/drivers/virtiofs && for d in virtio*; do echo $d > unbind && "
                 "echo $d > bind; done && cd /", 30)
        self.Mount(options="rw,dax")
        self.assertEqual(vm.Check("sha256sum /mnt/large", 90).split()[0], images.Sha256(self.Host("large")))
        vm.PowerOff()
        self.assertNotIn("refuses", vm.stderr)


class DaxKeys(DaxTest):
    """Who mounts without saying; a share that cannot be written to; a file that the host makes shorter."""

    def test_1_by_default(self):
        os.mkdir(self.Host("fixed"))
        self.Write("fixed/file", b"f" * 10000)
        self.Write("cut", b"c" * 3 * MIB)
        vm = self.BootWithDax(mount="noatime", timeout=3600, socket=True,
                              more=["--shared-dir", f"{self.Host('fixed')}:fixed:type=fs:ro:dax=always"])
        self.Write("file", b"x" * 4096)
        self.Open("file", 4)
        self.assertEqual(self.Ask(4, "put 0 seen"), "done")
        # By DAX, or it would not be there yet.
        self.assertEqual(self.Read("file", 0, 4), b"seen")
        self.Close(4)

    def test_2_read_only(self):
        vm = self.Shared()
        vm.Check("mkdir -p /tmp/fixed && mount -t virtiofs -o ro,dax fixed /tmp/fixed")
        self.assertEqual(vm.Check("echo get 9998 2 | /tmp/map_file /tmp/fixed/file").strip(), "ff")
        status, output = vm.Shell("mount -o remount,rw /tmp/fixed; echo put 0 x | /tmp/map_file /tmp/fixed/file")
        self.assertNotIn("done", output)
        self.assertEqual(self.Read("fixed/file", 0, 1), b"f")

    def test_3_made_shorter_under_a_program(self):
        vm = self.Shared()
        self.Open("cut", 4)
        self.assertEqual(self.Ask(4, f"get {2 * MIB} 2"), "cc")
        os.truncate(self.Host("cut"), MIB)
        vm.Check(f"echo get {2 * MIB + 65536} 2 >&4; sleep 1")
        # It waits, and nobody else does.
        self.assertEqual(vm.Check("cat /mnt/fixed/file | wc -c", 30).strip(), "10000")
        os.truncate(self.Host("cut"), 3 * MIB)
        self.assertEqual(vm.Check("read -r answer <&5; echo $answer", 30).strip(), "..")

    def test_4_made_shorter_under_the_kernel(self):
        vm = self.Shared()
        read = "dd bs=4096 count=1 skip={} of=/dev/null <&8 2>/dev/null\n"
        vm.Check("exec 8< /mnt/cut; " + read.format(0).strip())
        os.truncate(self.Host("cut"), MIB)
        # Linux's own copy waits, and its processor with it, until there is something to read.
        vm.Send("9998 " + read.format(400))
        time.sleep(2)
        os.truncate(self.Host("cut"), 3 * MIB)
        vm.WaitFor(r"@@9998 0@@\n", 60)
        # Or until the VM is ended.
        os.truncate(self.Host("cut"), MIB)
        vm.Send("9999 " + read.format(100))
        time.sleep(2)
        vm.Control("stop")
        vm.ExpectExit(0)


class ForeignSharedDir(ShareTest):
    """`--vhost-user-fs`: our server on its own, and Debian's."""

    quick = False

    def StartServer(self, command, path):
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.STDOUT)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        deadline = time.monotonic() + 20
        while not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertTrue(os.path.exists(path))
        return server

    def UseServer(self, command, path, mount="rw"):
        self.StartServer(command, path)
        images.CopyRoot(self.Path("root"))
        vm = self.Vm(options=["-r", self.Path("root"), "--vhost-user-fs", f"{path}:data"], mem=320)
        vm.Boot(25)
        vm.Check(f"mount -t virtiofs -o {mount} data /mnt && echo hello > /mnt/file && mkdir /mnt/sub && mv /mnt/file /mnt/sub")
        with open(self.Host("sub", "file"), encoding="ascii") as file:
            self.assertEqual(file.read(), "hello\n")
        vm.PowerOff()
        shutil.rmtree(self.Host("sub"))

    def test_1_ours(self):
        path = self.Path("ours.sock")
        self.UseServer([settings.binary, "device", "fs", "--socket-path", path, f"{self.share}:data:type=fs"], path)

    def test_2_ours_with_dax(self):
        path = self.Path("dax.sock")
        self.UseServer([settings.binary, "device", "fs", "--socket-path", path,
                        f"{self.share}:data:type=fs:dax=always:dax-window=8"], path, "dax")

    def test_3_debians(self):
        path = self.Path("theirs.sock")
        self.UseServer(["/usr/lib/qemu/virtiofsd", f"--socket-path={path}", "-o", f"source={self.share}", "-o",
                        "sandbox=chroot"], path)
