"""What goes wrong before a VM runs: one sentence with the remedy, status 35 or 1, nothing left behind."""
import fcntl
import os
import socket
import subprocess

import images
import settings
from e2e import E2eTest
from guest_paths import PathOf


class BadArguments(E2eTest):
    quick = True

    def Fails(self, *options, status=35, says=(), kernel=None):
        before = sorted(os.listdir(self.directory))
        text = self.RunCrosvm("run", *options, *([kernel or PathOf("vmlinux")] if kernel != "" else []), status=status)
        for word in says:
            self.assertIn(word, text)
        errors = [line for line in text.splitlines() if line.strip()]
        self.assertTrue(errors, "no error was printed")
        self.assertLessEqual(len(errors), 4, text)
        self.assertEqual(sorted(os.listdir(self.directory)), before, "files were left behind")

    def test_unknown_option(self):
        self.Fails("--no-such-option", says=["--no-such-option"])

    def test_bad_number(self):
        self.Fails("-m", "lots", says=["lots"])
        self.Fails("-c", "0")

    def test_no_kernel(self):
        self.Fails(kernel="")

    def test_missing_kernel(self):
        text = self.RunCrosvm("run", "/nowhere/vmlinuz", status=35)
        self.assertIn("/nowhere/vmlinuz", text)

    def test_unknown_disk_key(self):
        images.Sparse(self.Path("disk"), images.MIB)
        self.Fails("--disk", self.Path("disk") + ",colour=red", says=["colour"])

    def test_missing_disk(self):
        self.Fails("--disk", "/nowhere/disk", says=["/nowhere/disk"])

    def test_not_yet_built_option_says_so(self):
        self.Fails("--gpu", says=["gpu"])

    def test_config_file_with_unknown_key(self):
        with open(self.Path("vm.json"), "w", encoding="utf-8") as file:
            file.write('{"no_such_key": 1}')
        self.Fails("--cfg", self.Path("vm.json"), says=["no_such_key"])


class BadState(E2eTest):
    """The arguments are right, but the host is not."""

    def test_truncated_kernel(self):
        with open(PathOf("vmlinux"), "rb") as source, open(self.Path("short"), "wb") as out:
            out.write(source.read(4096))
        self.assertIn("short", self.RunCrosvm("run", self.Path("short"), status=1))

    def test_nonsense_kernel(self):
        images.Random(self.Path("noise"), 65536, 5)
        self.assertIn("noise", self.RunCrosvm("run", self.Path("noise"), status=1))

    def test_locked_image(self):
        images.Sparse(self.Path("locked"), images.MIB)
        with open(self.Path("locked"), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            text = self.RunCrosvm("run", "--rwdisk", self.Path("locked"), PathOf("vmlinux"), status=1)
            self.assertIn("locked", text)

    def test_occupied_socket(self):
        path = self.Path("taken.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            text = self.RunCrosvm("run", "-s", path, PathOf("vmlinux"), status=35)
            self.assertIn(path, text)
            self.assertTrue(os.path.exists(path), "somebody else's socket was removed")

    def test_no_kvm(self):
        text = self.RunCrosvm("run", "--kvm-device", "/dev/null", PathOf("vmlinux"), status=1)
        self.assertIn("/dev/null", text)

    def test_control_without_a_vm(self):
        self.assertIn("nobody.sock", self.RunCrosvm("stop", self.Path("nobody.sock"), status=1))


class Tools(E2eTest):
    """Subcommands that start no VM."""

    quick = True

    def test_version(self):
        self.assertRegex(self.RunCrosvm("version", status=0), r"crosvm \d+\.\d+")

    def test_help(self):
        for words in (["help"], ["run", "--help"], ["device", "--help"], ["stop", "--help"]):
            self.assertGreater(len(self.RunCrosvm(*words, status=0)), 100, words)

    def test_doctor(self):
        import json
        report = json.loads(subprocess.run([settings.binary, "doctor", "--json"], capture_output=True, text=True).stdout)
        self.assertTrue(report)

    def test_dumped_config_is_read_back(self):
        text = subprocess.run([settings.binary, "run", "-m", "512", "-c", "3", "--dump-config", PathOf("vmlinux")],
                              capture_output=True, text=True, check=True).stdout
        with open(self.Path("dumped.json"), "w", encoding="utf-8") as file:
            file.write(text)
        again = subprocess.run([settings.binary, "run", "--cfg", self.Path("dumped.json"), "--dump-config"],
                               capture_output=True, text=True, check=True).stdout
        self.assertEqual(text, again)
