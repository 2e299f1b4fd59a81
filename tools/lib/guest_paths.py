"""Where the guest material of tools/guest lies. Used by tools/guest, tools/nested-kvm, tests/e2e and bench."""
import os

SOURCE_DIR = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
GUEST_DIR = os.path.join(SOURCE_DIR, "build", "guest")

# Name -> Debian's package that depends on the newest kernel of that line.
KERNELS = {
    "6.1": "linux-image-cloud-amd64",
    "6.12": "linux-image-6.12-cloud-amd64",
    "6.12-full": "linux-image-6.12-amd64",
}


def PathOf(what, kernel="6.12"):
    """The path (for "version": the text) of `what`; it need not exist yet."""
    directory = os.path.join(GUEST_DIR, f"kernel-{kernel}")
    if what == "dir":
        return directory
    if what in ("vmlinuz", "vmlinux"):
        return os.path.join(directory, what)
    if what == "version":
        with open(os.path.join(directory, "version"), encoding="ascii") as file:
            return file.read().strip()
    if what == "modules":
        return os.path.join(directory, "lib", "modules", PathOf("version", kernel))
    if what == "initramfs":
        return os.path.join(GUEST_DIR, f"initramfs-{kernel}.cpio")
    if what == "qemu":
        return os.path.join(GUEST_DIR, "qemu")
    if what == "root":
        return os.path.join(GUEST_DIR, "root.ext4")
    raise ValueError(f"no guest material is called {what!r}")
