"""What POSIX and Linux promise of files, in shared directories: programs/posix on each kind of share and on a local ext4."""
import os
import re
import shutil
import tempfile

import shares
from e2e import E2eTest

# Kind of share: options of the host, mount command in the guest.
VIRTIOFS = "mount -t virtiofs {tag} /tmp/{tag}"
P9 = "mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,{more} {tag} /tmp/{tag}"
MAPS = "uidmap=0 100000 65536:gidmap=0 100000 65536"
KINDS = {
    "never": ("type=fs:cache=never:posix_acl", VIRTIOFS),
    "auto": ("type=fs:cache=auto:posix_acl", VIRTIOFS),
    "always": ("type=fs:cache=always:timeout=3600:posix_acl", VIRTIOFS),
    "back": ("type=fs:cache=always:timeout=3600:writeback=true:posix_acl", VIRTIOFS),
    "maps": (f"type=fs:cache=auto:posix_acl:{MAPS}", VIRTIOFS),
    "p9": ("type=9p", P9.replace("{more}", "access=client")),
    "p9mmap": ("type=9p", P9.replace("{more}", "access=client,cache=mmap")),
}

# Cases that fail, and are listed with the reason in docs/shared-dirs.md ("What differs from a local file system"). A
# case that fails and is not here is a failure; so is one that is here and passes.
EVERYWHERE = set()
VIRTIOFS_ONLY = set()
DEVIATIONS = {
    "never": EVERYWHERE | VIRTIOFS_ONLY,
    "auto": EVERYWHERE | VIRTIOFS_ONLY,
    "always": EVERYWHERE | VIRTIOFS_ONLY,
    "back": EVERYWHERE | VIRTIOFS_ONLY,
    "maps": EVERYWHERE | VIRTIOFS_ONLY,
    "p9": EVERYWHERE,
    "p9mmap": EVERYWHERE,
}


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
        shares.Build("posix", self.Host("auto/posix_cases"))
        type(self).shared = vm = self.Vm(options=options, mem=512)
        vm.Boot(30)
        # Not the initramfs: from a place where everybody may run it.
        vm.Check("mount -t tmpfs none /tmp && mkdir /tmp/ext4 && mount -t ext4 /dev/vda /tmp/ext4")
        for kind, (_, mount) in KINDS.items():
            vm.Check(f"mkdir /tmp/{kind} && " + mount.format(tag=kind), 30)
        vm.Check("cp /tmp/auto/posix_cases /tmp/ext4 && chmod 755 /tmp/ext4/posix_cases && rm /tmp/auto/posix_cases")
        self.assertEqual(self.Failures("ext4"), {})

    def Failures(self, kind):
        """{case: what it said} of those that failed."""
        _, output = self.Shared().Shell(f"/tmp/ext4/posix_cases /tmp/{kind}", 60)
        self.assertRegex(output, r"(?m)^\d+ passed, \d+ failed$")
        failures = {}
        for case, text in re.findall(r"(?m)^FAIL ([\w.]+): (.*)$", output):
            failures.setdefault(case, []).append(text)
        self.assertEqual(len(failures), int(re.search(r"(\d+) failed$", output.strip()).group(1)), output)
        return failures

    def CheckKind(self, kind):
        failures = self.Failures(kind)
        new = {case: texts for case, texts in failures.items() if case not in DEVIATIONS[kind]}
        self.assertEqual(new, {}, f"on {kind}")
        self.assertEqual(DEVIATIONS[kind] - set(failures), set(), f"listed as a deviation, but passes on {kind}")

    def test_2_virtiofs_never(self):
        self.CheckKind("never")

    def test_3_virtiofs_auto(self):
        self.CheckKind("auto")

    def test_4_virtiofs_always(self):
        self.CheckKind("always")

    def test_5_virtiofs_writeback(self):
        self.CheckKind("back")

    def test_6_virtiofs_with_maps(self):
        self.CheckKind("maps")

    def test_7_9p(self):
        self.CheckKind("p9")

    def test_8_9p_cache_mmap(self):
        self.CheckKind("p9mmap")

    def test_9_power_off(self):
        self.Shared().PowerOff()
