"""`--shared-dir PATH:TAG:type=9p` with Linux' own 9p client (Debian's kernel with all drivers: the cloud one has no 9p)."""
import fcntl
import os
import signal
import stat
import subprocess

import images
from e2e import E2eTest
from kills import KilledEvery, PidOf

PROGRAMS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "programs")
PROGRAM = os.path.join(PROGRAMS, "file_lock.c")
AS_USER = os.path.join(PROGRAMS, "as_user.c")
MOUNT = "mkdir -p /tmp/{tag} && mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000{more} {tag} /tmp/{tag}"
# The root disk's programs, which see what is mounted below /tmp.
TOOLS = ("mount -t tmpfs none /tmp && mount --make-shared /tmp && mkdir /r && mount -t ext4 -o ro /dev/vda /r && "
         "mount --bind /tmp /r/tmp && mount --bind /dev /r/dev && mount --bind /proc /r/proc")
FIO = ("chroot /r fio --name=v --directory=/tmp/data --rw=randwrite --bs=4k-32k --size=512k --io_size=512k --numjobs=2 --ioengine={engine} "
       "--eta=never --verify_state_save=0 --verify=crc32c --do_verify=1 --verify_fatal=1 --randseed=5 --output=/tmp/fio.log {more} || "
       "{{ cat /tmp/fio.log; false; }}")


class Shares(E2eTest):
    """Everything a guest does with files, seen from both sides: in one writable share and one that is read-only."""

    kernel = "6.12-full"
    ordered = True

    def Host(self, name):
        return os.path.join(self.Path("data"), name)

    def Text(self, name):
        with open(self.Host(name), encoding="ascii") as file:
            return file.read()

    def test_1_files(self):
        images.CopyRoot(self.Path("root"))
        options = ["--disk", self.Path("root")]
        for tag, more in (("data", ""), ("fixed", ":ro")):
            os.makedirs(self.Path(tag))
            with open(os.path.join(self.Path(tag), "from-host"), "w", encoding="ascii") as file:
                file.write("hello guest\n")
            options += ["--shared-dir", f"{self.Path(tag)}:{tag}:type=9p{more}"]
        type(self).shared = vm = self.Vm(options=[*options, "--device-restarts", "1000"], socket=True)
        vm.Boot(30)
        vm.Check(TOOLS)
        vm.Check(MOUNT.format(tag="data", more="") + " && " + MOUNT.format(tag="fixed", more=""))
        self.assertIn("hello guest", vm.Check("cat /tmp/data/from-host"))
        digest = vm.Check("dd if=/dev/urandom of=/tmp/data/big bs=1M count=2 2>/dev/null && sync && "
                          "sha256sum /tmp/data/big", 60).split()[0]
        self.assertEqual(images.Sha256(self.Host("big")), digest)
        vm.Check("printf 12345678 >/tmp/data/cut && truncate -s 3 /tmp/data/cut && printf x >>/tmp/data/cut")
        self.assertEqual(self.Text("cut"), "123x")

    def test_2_names(self):
        vm = self.Shared()
        vm.Check("cd /tmp/data && mkdir -p a/b/c && echo 1 >a/b/c/f && ln -s ../b/c/f a/b/link && ln a/b/c/f a/hard && "
                 "mkfifo a/pipe && cat a/b/link && mv a/b a/moved && cat a/moved/c/f && rm a/hard && cd /")
        self.assertEqual(sorted(os.listdir(self.Host("a"))), ["moved", "pipe"])
        self.assertEqual(os.readlink(self.Host("a/moved/link")), "../b/c/f")
        self.assertTrue(stat.S_ISFIFO(os.lstat(self.Host("a/pipe")).st_mode))
        vm.Check("for i in $(seq 1 40); do : >/tmp/data/a/moved/n$i; done; rm /tmp/data/a/moved/n15", 60)
        self.assertEqual(vm.Check("ls /tmp/data/a/moved | wc -l").strip(), "41")
        vm.Check("rm -r /tmp/data/a", 60)
        self.assertFalse(os.path.exists(self.Host("a")))
        status, _ = vm.Shell("mkdir /tmp/data/from-host/x")
        self.assertNotEqual(status, 0)

    def test_3_attributes(self):
        vm = self.Shared()
        vm.Check("cd /tmp/data && : >m && chmod 640 m && chown 12:34 m && touch -d '2001-02-03 04:05:06' m && cd /")
        there = os.stat(self.Host("m"))
        self.assertEqual((stat.S_IMODE(there.st_mode), there.st_uid, there.st_gid), (0o640, 12, 34))
        self.assertEqual(there.st_mtime, 981173106)
        self.assertEqual(vm.Check("stat -c '%a %u %g %s' /tmp/data/m").split(), ["640", "12", "34", "0"])
        os.chmod(self.Host("m"), 0o604)
        self.assertEqual(vm.Check("stat -c %a /tmp/data/m").strip(), "604")
        vm.Check("df /tmp/data | grep -q data")
        subprocess.run(["cc", "-static", "-O1", "-o", self.Host("as_user"), AS_USER], check=True)
        vm.Check("mkdir -m 777 /tmp/data/open && /tmp/data/as_user 1000 1001 sh -c 'echo mine >/tmp/data/open/mine'")
        there = os.stat(self.Host("open/mine"))
        self.assertEqual((there.st_uid, there.st_gid), (1000, 1001))

    def test_4_an_open_file_lives_without_a_name(self):
        self.assertIn("kept", self.Shared().Check(
            "cd /tmp/data && echo kept >gone && exec 5<gone && rm gone && cat <&5; exec 5<&-; cd /"))

    def test_5_a_killed_device_is_replaced(self):
        """Open files, directories and names go on."""
        vm = self.Shared()
        vm.Check("echo before >/tmp/data/log && exec 6>>/tmp/data/log 7</tmp/data/big")
        for name in ("r0", "r1"):
            vm.Check(f"echo {name} >&6; head -c 4096 <&7 >/dev/null; mkdir /tmp/data/{name}")
            os.kill(PidOf(vm, "9p[0]"), signal.SIGKILL)
            vm.Check(f"echo after-{name} >&6; head -c 4096 <&7 >/dev/null; ls /tmp/data/{name}; "
                     f"mv /tmp/data/{name} /tmp/data/{name}.moved", 60)
        vm.Check("exec 6>&- 7<&-")
        self.assertEqual(self.Text("log").split(), ["before", "r0", "after-r0", "r1", "after-r1"])
        self.assertTrue(os.path.isdir(self.Host("r1.moved")))

    def test_6_read_only(self):
        vm = self.Shared()
        self.assertIn("hello guest", vm.Check("cat /tmp/fixed/from-host"))
        for command in ("echo x >f", "rm from-host", "mkdir d", "mv from-host g", "chmod 600 from-host", "ln -s a b"):
            status, output = vm.Shell(f"(cd /tmp/fixed && {command})")
            self.assertNotEqual(status, 0, command)
            self.assertIn("ead-only", output, command)
        self.assertEqual(os.listdir(self.Path("fixed")), ["from-host"])

    def test_7_attributes_and_locks(self):
        vm = self.Shared()
        vm.Check(": >/tmp/data/x && chroot /r setfattr -n user.colour -v green /tmp/data/x && "
                 "chroot /r getfattr -n user.colour /tmp/data/x | grep -q green && "
                 "chroot /r getfattr -d /tmp/data/x | grep -q user.colour")
        self.assertEqual(os.getxattr(self.Host("x"), "user.colour"), b"green")
        vm.Check("chroot /r setfattr -x user.colour /tmp/data/x")
        self.assertEqual(os.listxattr(self.Host("x")), [])
        # The host's lock stands in the guest's way, and the guest's in the host's.
        subprocess.run(["cc", "-static", "-O1", "-o", self.Host("file_lock"), PROGRAM], check=True)
        with open(self.Host("x"), "r+", encoding="ascii") as file:
            fcntl.lockf(file, fcntl.LOCK_SH)
            vm.Check("/tmp/data/file_lock /tmp/data/x shared </dev/null")
            status, _ = vm.Shell("/tmp/data/file_lock /tmp/data/x exclusive </dev/null")
            self.assertEqual(status, 1)
            fcntl.lockf(file, fcntl.LOCK_UN)
            vm.Check("mkfifo /tmp/hold && (/tmp/data/file_lock /tmp/data/x exclusive </tmp/hold >/tmp/held &) && "
                     "exec 8>/tmp/hold && while ! grep -q locked /tmp/held; do sleep 0.1; done")
            self.assertRaises(OSError, fcntl.lockf, file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            vm.Check("exec 8>&-")
            fcntl.lockf(file, fcntl.LOCK_EX)

    def test_8_verified_load(self):
        """fio checks what it wrote, while the device is killed again and again."""
        vm = self.Shared()
        with KilledEvery(vm, "9p[0]", 3):
            vm.Check(FIO.format(engine="psync", more="--fsync=8"), 120)
        # Names: nothing is done twice, nothing is left out.
        with KilledEvery(vm, "9p[0]", 1):
            vm.Check("cd /tmp/data && for i in $(seq 1 60); do mkdir d$i && echo $i >d$i/f && ln d$i/f d$i/g && "
                     "mv d$i e$i && test $(cat e$i/g) = $i && ln -s x e$i/l && rm e$i/f e$i/g e$i/l && rmdir e$i || "
                     "{ echo failed at $i; break; }; done; cd /; test $i = 60 && ! ls -d /tmp/data/[de][0-9]*", 120)
        vm.Check("umount /tmp/data && " + MOUNT.format(tag="data", more=",cache=mmap"))
        vm.Check(FIO.format(engine="mmap", more=""), 120)

    def test_9_cached(self):
        """cache=loose: appends and delayed writes arrive whole."""
        vm = self.Shared()
        vm.Check("umount /tmp/data && " + MOUNT.format(tag="data", more=",cache=loose"))
        vm.Check("for i in $(seq 1 100); do echo line $i >>/tmp/data/lines; done && sync", 60)
        vm.Check("dd if=/dev/urandom of=/tmp/data/f bs=1000 count=1000 2>/dev/null && cp /tmp/data/f /tmp/g && sync && "
                 "echo 3 >/proc/sys/vm/drop_caches && cmp /tmp/data/f /tmp/g && umount /tmp/data", 60)
        vm.PowerOff()
        self.assertEqual(self.Text("lines"), "".join(f"line {i}\n" for i in range(1, 101)))
