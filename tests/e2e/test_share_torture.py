"""Shared directories under load that checks itself, with kill -9, full and failing disks, and changes from both sides.

The sizes are for a few minutes on an emulated machine; CROSVM_TORTURE=N makes loads and kills N times as many. The same loads run natively
below the kernel's own FUSE client, with every kind of cache, in src/devices/fs/kernel_test.cc.
"""
import os
import shutil
import subprocess
import tempfile

import images
import shares
from e2e import E2eTest
from kills import TIMES, KilledEvery, PidOf

MIB = 1 << 20
FIO = ("fio --name=v --directory=/tmp/data --rw=randwrite --bs=4k-32k --size=1m --numjobs=2 --ioengine={engine} --eta=never "
       "--verify_state_save=0 --verify=crc32c --do_verify=1 --verify_fatal=1 --randseed=5 --output=/tmp/fio.log || {{ cat /tmp/fio.log; false; }}")


class ShareTortureTest(E2eTest):
    """Shares below a directory on a memory file system of the host; the guest mounts each as /tmp/TAG."""

    ordered = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.place = tempfile.mkdtemp(prefix="torture-", dir="/dev/shm")
        cls.mounted = []
        cls.tools = cls.Path("tools")
        os.mkdir(cls.tools)
        for name in ("fsx", "name_storm"):
            shares.Build(name, os.path.join(cls.tools, name))

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        for place in getattr(cls, "mounted", []):
            subprocess.run(["umount", "-l", place], check=False)
        shutil.rmtree(getattr(cls, "place", ""), ignore_errors=True)

    def Host(self, *names):
        return os.path.join(self.place, *names)

    def MountOnHost(self, name, *words):
        os.makedirs(self.Host(name), exist_ok=True)
        subprocess.run(["mount", *words, self.Host(name)], check=True)
        self.mounted.append(self.Host(name))

    def BootWith(self, shared):
        """`shared`: {tag: keys}. The programs lie in a share as well."""
        images.CopyRoot(self.Path("root"))
        words = ["-r", self.Path("root"), "--device-restarts", "100000", "--shared-dir", f"{self.tools}:tools:type=fs:ro"]
        for tag, keys in shared.items():
            os.makedirs(self.Host(tag), exist_ok=True)
            words += ["--shared-dir", f"{self.Host(tag)}:{tag}:type=fs:{keys}"]
        type(self).shared = vm = self.Vm(options=words, mem=400)
        vm.Boot(25)
        for tag in ("tools", *shared):
            vm.Check(f"mkdir -p /tmp/{tag} && mount -t virtiofs {tag} /tmp/{tag}")


class ShareLoads(ShareTortureTest):
    """Loads that check themselves, while the process dies, and while the host works in the same tree."""

    def test_1_boot(self):
        self.BootWith({"data": "cache=auto", "never": "cache=never"})

    def test_2_fio(self):
        for engine in ("psync", "mmap"):
            self.Shared().Check(FIO.format(engine=engine), 60)

    def test_3_killed_under_load(self):
        vm = self.Shared()
        vm.Check("cd /tmp/data && dd if=/dev/urandom of=synced bs=64k count=16 2>/dev/null && sync synced && cp synced /tmp/synced")
        before = images.Sha256(self.Host("data", "synced"))
        with KilledEvery(vm, "fs[1]", 2) as kills:
            # How many a round sees is the machine's pace.
            while len(kills) < 3 * TIMES:
                output = vm.Check(f"cd /tmp && (tools/fsx data/file {len(kills)} 200 > fsx.log 2>&1; echo $? >> fsx.log) & "
                                  f"/tmp/tools/name_storm /tmp/data 1 32 8 {len(kills)}; status=$?; wait; cat /tmp/fsx.log; "
                                  "cmp /tmp/synced /tmp/data/synced && [ $status = 0 ] && rm -r /tmp/data/d?", 120)
                self.assertIn("fsx: ", output)
                self.assertIn("are right, missing 0x4\n0\n", output)
                self.assertIn("name_storm: ", output)
        self.assertEqual(images.Sha256(self.Host("data", "synced")), before)

    def test_4_host_and_guest_in_one_tree(self):
        """Each side sees its own changes and loses none by the other's."""
        vm = self.Shared()
        for directory in ("d0", "d1", "d2"):
            os.mkdir(self.Host("never", directory))
        host = subprocess.Popen([os.path.join(self.tools, "name_storm"), self.Host("never"), "101", "4", str(3000 * TIMES), "4"],
                                stdout=subprocess.PIPE, text=True)
        output = vm.Check(f"/tmp/tools/name_storm /tmp/never 1 8 {25 * TIMES} 5", 60 * TIMES)
        said, _ = host.communicate(timeout=600)
        self.assertEqual(host.returncode, 0, said)
        self.assertIn("are right", output)
        listed = vm.Check("cd /tmp/never && find d0 d1 d2 | sort").split()
        there = [os.path.relpath(os.path.join(folder, name), self.Host("never"))
                 for directory in ("d0", "d1", "d2") for folder, _, names in os.walk(self.Host("never", directory))
                 for name in names]
        self.assertEqual(listed, sorted([*there, "d0", "d1", "d2"]))

    def test_5_power_off(self):
        self.Shared().PowerOff()


class ShareFailures(ShareTortureTest):
    """What the host's file system refuses comes through as it is, and goes away again."""

    needs_root = True

    def test_1_boot(self):
        self.MountOnHost("full", "-t", "tmpfs", "-o", "size=4m,nr_inodes=200", "none")
        self.MountOnHost("back", "-t", "tmpfs", "-o", "size=4m", "none")
        shares.MakeExt4(self.Path("failing.ext4"), 32)
        self.MountOnHost("failing", "-o", "loop", self.Path("failing.ext4"))
        images.Random(self.Host("failing", "file"), 8 * MIB, 3)
        self.BootWith({"full": "cache=auto", "back": "cache=always:writeback=true", "failing": "cache=auto", "gone": "cache=never",
                       "kept": "cache=always"})

    def test_2_disk_full(self):
        vm = self.Shared()
        vm.Check("echo kept > /tmp/full/kept")
        status, output = vm.Shell("dd if=/dev/zero of=/tmp/full/big bs=64k count=100")
        self.assertNotEqual(status, 0)
        self.assertIn("No space left on device", output)
        self.assertEqual(vm.Check("stat -f -c %a /tmp/full").strip(), "0")
        self.assertIn("No space left on device", vm.Shell("echo more > /tmp/full/more; cat /tmp/full/kept")[1])
        self.assertEqual(vm.Check("rm /tmp/full/big && echo again > /tmp/full/more && cat /tmp/full/kept /tmp/full/more").split(),
                         ["kept", "again"])

    def test_3_no_more_files(self):
        status, output = self.Shared().Shell("cd /tmp/full && for i in $(seq 1 300); do : > f$i || break; done 2>&1; ls | wc -l; rm f*; : > f",
                                             30)
        self.assertIn("No space left on device", output)
        self.assertEqual(status, 0)

    def test_4_disk_full_behind_a_writeback_cache(self):
        """What was taken and could not be written is told by fsync."""
        output = self.Shared().Shell("dd if=/dev/zero of=/tmp/back/big bs=64k count=100 conv=fsync")[1]
        self.assertIn("No space left on device", output)
        self.Shared().Check("rm /tmp/back/big; echo again > /tmp/back/more && sync && cat /tmp/back/more")

    def test_5_input_output_errors(self):
        """The disk below loses its end."""
        vm = self.Shared()
        server = PidOf(vm, "fs[3]")
        subprocess.run(["sync", "-f", self.Host("failing")], check=True)
        os.truncate(self.Path("failing.ext4"), 1 * MIB)
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("3")
        status, output = vm.Shell("cat /tmp/failing/file > /dev/null")
        self.assertNotEqual(status, 0)
        self.assertIn("Input/output error", output)
        # Neither the process nor the other shares suffer.
        self.assertEqual(vm.Check("cat /tmp/full/kept").strip(), "kept")
        self.assertEqual(PidOf(vm, "fs[3]"), server)

    def test_6_the_directory_is_removed(self):
        vm = self.Shared()
        for tag in ("gone", "kept"):
            vm.Check(f"cd /tmp/{tag} && mkdir sub && echo here > file && echo here > sub/file && cd /")
        vm.Check("exec 7</tmp/gone/file")
        shutil.rmtree(self.Host("gone"))
        self.assertEqual(vm.Check("cat <&7; exec 7<&-").strip(), "here")
        self.assertEqual(vm.Shell("ls -A /tmp/gone")[1].strip(), "")
        for command in ("cat /tmp/gone/file", "echo x > /tmp/gone/new", "mkdir /tmp/gone/dir", "ls /tmp/gone/sub"):
            status, output = vm.Shell(command)
            self.assertNotEqual(status, 0, command)
            self.assertIn("No such file or directory", output, command)
        # Another directory of that name is another directory.
        os.mkdir(self.Host("gone"))
        self.assertNotEqual(vm.Shell("echo x > /tmp/gone/new")[0], 0)
        self.assertEqual(vm.Check("cat /tmp/kept/file /tmp/kept/sub/file").split(), ["here", "here"])
        vm.Check("umount /tmp/gone", 30)

    def test_7_power_off(self):
        self.Shared().PowerOff()
