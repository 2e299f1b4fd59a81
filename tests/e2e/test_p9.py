"""`--shared-dir PATH:TAG:type=9p` with Linux' own 9p client (Debian's kernel with all drivers: the cloud one has no 9p)."""
import json
import os
import signal
import stat

from e2e import E2eTest

MOUNT = "mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000{more} {tag} {place}"


class P9Test(E2eTest):
    kernel = "6.12-full"

    @classmethod
    def BootWithShare(cls, suboptions="", more="", **options):
        os.makedirs(cls.Path("share"), exist_ok=True)
        vm = cls.Vm(options=["--shared-dir", f"{cls.Path('share')}:data:type=9p{suboptions}"], **options)
        vm.Boot(30)
        vm.Check("mkdir -p /tmp/share && " + MOUNT.format(tag="data", place="/tmp/share", more=more))
        return vm

    def Host(self, name):
        return os.path.join(self.Path("share"), name)


class Share(P9Test):
    """Everything a guest does with files, seen from both sides."""

    ordered = True

    def test_1_files(self):
        type(self).shared = vm = self.BootWithShare(socket=True)
        with open(self.Host("from-host"), "w", encoding="ascii") as file:
            file.write("hello guest\n")
        self.assertIn("hello guest", vm.Check("cat /tmp/share/from-host"))
        digest = vm.Check("dd if=/dev/urandom of=/tmp/share/big bs=1M count=8 2>/dev/null && sync && "
                          "sha256sum /tmp/share/big", 60).split()[0]
        done = os.popen(f"sha256sum {self.Host('big')}").read().split()[0]
        self.assertEqual(done, digest)
        vm.Check("printf 12345678 >/tmp/share/cut && truncate -s 3 /tmp/share/cut && printf x >>/tmp/share/cut")
        with open(self.Host("cut"), encoding="ascii") as file:
            self.assertEqual(file.read(), "123x")

    def test_2_names(self):
        vm = self.Shared()
        vm.Check("cd /tmp/share && mkdir -p a/b/c && echo 1 >a/b/c/f && ln -s ../b/c/f a/b/link && ln a/b/c/f a/hard && "
                 "mkfifo a/pipe && cat a/b/link && mv a/b a/moved && cat a/moved/c/f && rm a/hard")
        self.assertEqual(sorted(os.listdir(self.Host("a"))), ["moved", "pipe"])
        self.assertEqual(os.readlink(self.Host("a/moved/link")), "../b/c/f")
        self.assertTrue(stat.S_ISFIFO(os.lstat(self.Host("a/pipe")).st_mode))
        vm.Check("for i in $(seq 1 300); do : >/tmp/share/a/moved/n$i; done; rm /tmp/share/a/moved/n150", 120)
        self.assertEqual(vm.Check("ls /tmp/share/a/moved | wc -l").strip(), "301")
        vm.Check("rm -r /tmp/share/a", 120)
        self.assertFalse(os.path.exists(self.Host("a")))
        status, _ = vm.Shell("mkdir /tmp/share/from-host/x")
        self.assertNotEqual(status, 0)

    def test_3_attributes(self):
        vm = self.Shared()
        vm.Check("cd /tmp/share && : >m && chmod 640 m && chown 12:34 m && touch -d '2001-02-03 04:05:06' m")
        there = os.stat(self.Host("m"))
        self.assertEqual((stat.S_IMODE(there.st_mode), there.st_uid, there.st_gid), (0o640, 12, 34))
        self.assertEqual(there.st_mtime, 981173106)
        self.assertEqual(vm.Check("stat -c '%a %u %g %s' /tmp/share/m").split(), ["640", "12", "34", "0"])
        os.chmod(self.Host("m"), 0o604)
        self.assertEqual(vm.Check("stat -c %a /tmp/share/m").strip(), "604")
        vm.Check("df /tmp/share | grep -q data")

    def test_4_an_open_file_lives_without_a_name(self):
        self.assertIn("kept", self.Shared().Check(
            "cd /tmp/share && echo kept >gone && exec 5<gone && rm gone && cat <&5; exec 5<&-"))

    def test_5_a_killed_device_is_replaced(self):
        """Open files, directories and names go on."""
        vm = self.Shared()
        vm.Check("cd /tmp/share && echo before >log && exec 6>>log 7<big")
        for round_number in range(3):
            name = f"r{round_number}"
            vm.Check(f"echo {name} >&6; head -c 4096 <&7 >/dev/null; mkdir /tmp/share/{name}")
            os.kill(self.DevicePid(vm), signal.SIGKILL)
            vm.Check(f"echo after-{name} >&6; head -c 4096 <&7 >/dev/null; ls /tmp/share/{name}; "
                     f"mv /tmp/share/{name} /tmp/share/{name}.moved", 60)
        vm.Check("exec 6>&- 7<&-")
        with open(self.Host("log"), encoding="ascii") as file:
            self.assertEqual(file.read().split(),
                             ["before", "r0", "after-r0", "r1", "after-r1", "r2", "after-r2"])

    @staticmethod
    def DevicePid(vm):
        processes = json.loads(vm.Control("ps", "--json"))["processes"]
        return next(process["pid"] for process in processes if process["name"].startswith("9p"))

    def test_6_powers_off(self):
        self.Shared().Check("cd / && umount /tmp/share")
        self.Shared().Check(MOUNT.format(tag="data", place="/tmp/share", more=",cache=loose") +
                            " && echo again >/tmp/share/again && umount /tmp/share")
        self.Shared().PowerOff()
        with open(self.Host("again"), encoding="ascii") as file:
            self.assertEqual(file.read(), "again\n")


class Cached(P9Test):
    """cache=loose: appends, mmap and delayed writes arrive whole."""

    def test_appends_and_maps(self):
        vm = self.BootWithShare(more=",cache=loose")
        vm.Check("cd /tmp/share && for i in $(seq 1 200); do echo line $i >>log; done && sync", 60)
        vm.Check("dd if=/dev/urandom of=/tmp/share/f bs=1000 count=3000 2>/dev/null && cp /tmp/share/f /tmp/g && sync "
                 "&& echo 3 >/proc/sys/vm/drop_caches && cmp /tmp/share/f /tmp/g", 120)
        vm.Check("cd / && umount /tmp/share")
        vm.PowerOff()
        with open(self.Host("log"), encoding="ascii") as file:
            self.assertEqual(file.read(), "".join(f"line {i}\n" for i in range(1, 201)))


class ReadOnly(P9Test):
    """ro: nothing changes, whatever the guest does."""

    def test_refuses_changes(self):
        os.makedirs(self.Path("share"))
        with open(self.Host("f"), "w", encoding="ascii") as file:
            file.write("as it was\n")
        vm = self.BootWithShare(":ro")
        self.assertIn("as it was", vm.Check("cat /tmp/share/f"))
        for command in ("echo x >f", "rm f", "mkdir d", "mv f g", "chmod 600 f", "ln -s a b", "truncate -s 0 f"):
            status, output = vm.Shell(f"cd /tmp/share && {command}")
            self.assertNotEqual(status, 0, command)
            self.assertIn("ead-only", output, command)
        vm.PowerOff()
        self.assertEqual(os.listdir(self.Path("share")), ["f"])
