"""What POSIX and Linux promise of files, in shared directories: programs/posix on each kind of share and on a local ext4."""
import os
import re
import shutil
import tempfile

import shares
from e2e import E2eTest

# Kind of share: options of the host, mount command in the guest.
VIRTIOFS = "mount -t virtiofs {tag} /tmp/{tag}"
MAPS = "uidmap=0 100000 65536:gidmap=0 100000 65536"
KINDS = {
    "never": ("type=fs:cache=never:posix_acl", VIRTIOFS),
    "auto": ("type=fs:cache=auto:posix_acl", VIRTIOFS),
    "always": ("type=fs:cache=always:timeout=3600:posix_acl", VIRTIOFS),
    "back": ("type=fs:cache=always:timeout=3600:writeback=true:posix_acl", VIRTIOFS),
    "maps": (f"type=fs:cache=auto:posix_acl:{MAPS}", VIRTIOFS),
    "p9": ("type=9p", "mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 {tag} /tmp/{tag}"),
}

# CROSVM_POSIX_ALL=1 tries them all, some minutes each on an emulated machine. src/devices/fs/kernel_test.cc runs the cases with
# every kind of cache, below the kernel of the machine it runs on.
if not os.environ.get("CROSVM_POSIX_ALL"):
    KINDS = {kind: KINDS[kind] for kind in ("maps", "p9")}


def Deviations(kind):
    """The cases that fail and are listed, with the reason in docs/shared-dirs.md."""
    kinds = {kind} if kind == "p9" else {kind, "jail"}
    with open(os.path.join(shares.PROGRAMS, "posix", "deviations.txt"), encoding="ascii") as file:
        lines = [line.split() for line in file if not line.startswith("#")]
    return {words[0] for words in lines if kinds & set(words[1:])}


class PosixCases(E2eTest):
    """One guest with a share of each kind, all on an ext4 of the host."""

    kernel = "6.12-full"  # the cloud kernel has no 9p
    ordered = True
    needs_root = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # A share with a map is entered as that map's root, who has to get there.
        cls.place = tempfile.mkdtemp(prefix="posix-", dir="/dev/shm")
        os.chmod(cls.place, 0o755)
        cls.host = shares.LoopFileSystem(os.path.join(cls.place, "image"), os.path.join(cls.place, "host"), 256)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        if hasattr(cls, "host"):
            cls.host.Unmount()
        shutil.rmtree(getattr(cls, "place", ""), ignore_errors=True)

    def Host(self, name):
        return os.path.join(self.host.place, name)

    def test_1_a_local_file_system(self):
        """The cases themselves are right: an ext4 of the guest passes them all."""
        options = ["--rwdisk", shares.MakeExt4(self.Path("guest.ext4"), 256)]
        for kind, (keys, _) in KINDS.items():
            os.mkdir(self.Host(kind))
            if "uidmap" in keys:
                os.chown(self.Host(kind), 100000, 100000)
            options += ["--shared-dir", f"{self.Host(kind)}:{kind}:{keys}"]
        os.mkdir(self.Path("tools"))
        shares.Build("posix", self.Path("tools/posix_cases"))
        shares.Build("fsx", self.Path("tools/fsx"))
        options += ["--shared-dir", f"{self.Path('tools')}:tools:type=fs:ro"]
        type(self).shared = vm = self.Vm(options=options, mem=512)
        vm.Boot(30)
        vm.Check("mount -t tmpfs none /tmp && mkdir /tmp/ext4 && mount -t ext4 /dev/vda /tmp/ext4")
        for kind, (_, mount) in KINDS.items():
            vm.Check(f"mkdir /tmp/{kind} && " + mount.format(tag=kind), 30)
        vm.Check("mkdir /tmp/tools && mount -t virtiofs tools /tmp/tools")
        self.assertEqual(self.Failures("ext4"), {})

    def Failures(self, kind):
        """{case: what it said} of those that failed."""
        _, output = self.Shared().Shell(f"/tmp/tools/posix_cases /tmp/{kind}", 90)
        self.assertRegex(output, r"(?m)^\d+ passed, \d+ failed$")
        if path := os.environ.get("POSIX_LOG"):
            with open(f"{path}.{kind}", "w", encoding="utf-8") as file:
                file.write(output)
        failures = {}
        for case, text in re.findall(r"(?m)^FAIL ([\w.]+): (.*)$", output):
            failures.setdefault(case, []).append(text)
        self.assertEqual(len(failures), int(re.search(r"(\d+) failed$", output.strip()).group(1)), output)
        return failures

    def test_2_shares(self):
        for kind in KINDS:
            with self.subTest(kind):
                failures = self.Failures(kind)
                listed = Deviations(kind)
                self.assertEqual({case: texts for case, texts in failures.items() if case not in listed}, {})
                self.assertEqual(listed - set(failures), set(), "listed as a deviation, but passes")

    def test_3_random_operations(self):
        self.assertIn("are right", self.Shared().Check("/tmp/tools/fsx /tmp/p9/file 3 300", 60))

    def test_4_power_off(self):
        self.Shared().PowerOff()
