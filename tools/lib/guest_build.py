"""Builds the guest material: fetches and unpacks kernels, writes the initramfs and the root disk.

Used by tools/guest, which holds the lock of build/guest/. Every artefact is made under a temporary name and renamed into
place, so what exists is complete.
"""
import glob
import hashlib
import lzma
import os
import re
import shutil
import stat
import subprocess
import sys
import zlib

from guest_paths import GUEST_DIR, KERNELS, SOURCE_DIR, PathOf

TEMPLATE_DIR = os.path.join(SOURCE_DIR, "tools", "guest-files")
BUSYBOX = "/usr/bin/busybox"

# Drivers a guest may meet. What a kernel has built in (or not at all) is passed over.
MODULES = [
    "virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_console", "virtio-rng", "virtio_balloon",
    "vmw_vsock_virtio_transport", "virtiofs", "ext4", "nvme", "e1000e", "xhci-pci", "pvpanic-pci", "pvpanic-mmio",
    "pvpanic", "ptp_kvm", "rtc-cmos", "i8042", "qemu_fw_cfg", "9p", "9pnet_virtio", "virtio_pmem",
    "virtio_input", "button", "tpm_tis", "tpm_crb", "loop", "msr", "evdev",
]

# The QEMU that tools/nested-kvm runs as the outer machine. Debian 12's own (7.2) executes kernel code that another processor
# patches as it was half-way through (fixed in QEMU 8.1): kernels die of an `int3` once in some hundred boots.
BACKPORTS = ("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian "
             "bookworm-backports main\n")
QEMU_PACKAGES = ["qemu-system-x86", "qemu-system-data", "seabios"]

# Programs of the host that the root disk gets, with the shared libraries they need.
PROGRAMS = [
    "lspci", "setpci", "lsblk", "fio", "ethtool", "iperf3", "ip", "ping", "socat", "curl", "bash", "blkdiscard",
    "fstrim", "findmnt", "lscpu", "mkfs.ext4", "e2fsck", "setfattr", "getfattr", "setfacl", "getfacl", "dmesg",
    "sha256sum", "dd", "taskset", "mount", "umount", "stat", "ldconfig",
]


class BuildError(Exception):
    pass


def Say(text):
    print(f"tools/guest: {text}", file=sys.stderr, flush=True)


def Run(command, **options):
    return subprocess.run(command, check=True, **options)


# --- kernels ---------------------------------------------------------------------------------------------------

def AptOptions(private):
    """With `private`, package lists of our own: works without root and without a fresh `apt-get update`."""
    if not private:
        return []
    lists = os.path.join(GUEST_DIR, "apt", "lists")
    cache = os.path.join(GUEST_DIR, "apt", "cache")
    os.makedirs(os.path.join(lists, "partial"), exist_ok=True)
    os.makedirs(os.path.join(cache, "archives", "partial"), exist_ok=True)
    return ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}", "-o", "Debug::NoLocking=1",
            "-o", "APT::Sandbox::User="]


def FetchPackage(meta_package, directory):
    """Downloads the kernel package that `meta_package` depends on into `directory`; returns its path."""
    for private in (False, True):
        options = AptOptions(private)
        if private:
            Say("fetching package lists")
            Run(["apt-get", *options, "update", "-q"], stdout=subprocess.DEVNULL)
        shown = subprocess.run(["apt-cache", *options, "show", "--no-all-versions", meta_package],
                               capture_output=True, text=True)
        match = re.search(r"^Depends:.*?(linux-image-[^\s,]+) \(= ([^)]+)\)", shown.stdout, re.MULTILINE)
        if not match:
            continue
        package, version = match.groups()
        Say(f"fetching {package} {version}")
        done = subprocess.run(["apt-get", *options, "download", "-q", f"{package}={version}"], cwd=directory,
                              stdout=subprocess.DEVNULL, stderr=None if private else subprocess.DEVNULL)
        files = glob.glob(os.path.join(directory, "*.deb"))
        if done.returncode == 0 and len(files) == 1:
            return files[0]
    raise BuildError(f"cannot fetch {meta_package}: no package source offers it; check /etc/apt/sources.list (Debian 12 "
                     "with its security archive) and the network")


def MakeQemu():
    directory = PathOf("qemu")
    if os.path.exists(os.path.join(directory, "version")):
        return
    temporary = directory + ".new"
    shutil.rmtree(temporary, ignore_errors=True)
    sources = os.path.join(temporary, "sources.list")
    os.makedirs(os.path.join(temporary, "lists", "partial"))
    with open(sources, "w", encoding="ascii") as file:
        file.write(BACKPORTS)
    options = ["-o", f"Dir::Etc::SourceList={sources}", "-o", "Dir::Etc::SourceParts=-",
               "-o", f"Dir::State::lists={temporary}/lists", "-o", f"Dir::Cache={temporary}/cache",
               "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=2"]
    Say("fetching QEMU from Debian's backports, for tools/nested-kvm")
    try:
        Run(["apt-get", *options, "update", "-q", "--error-on=any"], stdout=subprocess.DEVNULL)
        Run(["apt-get", *options, "download", "-q", *QEMU_PACKAGES], cwd=temporary, stdout=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise BuildError(f"cannot fetch QEMU from Debian's backports: {error}") from error
    for package in glob.glob(os.path.join(temporary, "*.deb")):
        Run(["dpkg-deb", "-x", package, temporary])
        os.unlink(package)
    version = Run([os.path.join(temporary, "usr", "bin", "qemu-system-x86_64"), "--version"], stdout=subprocess.PIPE,
                  text=True).stdout.splitlines()[0]
    with open(os.path.join(temporary, "version"), "w", encoding="ascii") as file:
        file.write(version + "\n")
    for leftover in ("lists", "cache"):
        shutil.rmtree(os.path.join(temporary, leftover), ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)
    os.rename(temporary, directory)
    Say(version)


def MakeKernel(name):
    directory = PathOf("dir", name)
    if os.path.exists(os.path.join(directory, "version")):
        return
    temporary = directory + ".new"
    shutil.rmtree(temporary, ignore_errors=True)
    os.makedirs(temporary)
    package = FetchPackage(KERNELS[name], temporary)
    Run(["dpkg-deb", "-x", package, temporary])
    os.unlink(package)
    images = glob.glob(os.path.join(temporary, "boot", "vmlinuz-*"))
    if len(images) != 1:
        raise BuildError(f"{os.path.basename(package)} holds {len(images)} kernel images; expected one")
    version = os.path.basename(images[0])[len("vmlinuz-"):]
    os.rename(images[0], os.path.join(temporary, "vmlinuz"))
    os.rename(os.path.join(temporary, "boot", f"config-{version}"), os.path.join(temporary, "config"))
    if os.path.isdir(os.path.join(temporary, "usr", "lib", "modules")):
        os.makedirs(os.path.join(temporary, "lib"), exist_ok=True)
        os.rename(os.path.join(temporary, "usr", "lib", "modules"), os.path.join(temporary, "lib", "modules"))
    Run(["/sbin/depmod", "-b", temporary, version])
    with open(os.path.join(temporary, "vmlinuz"), "rb") as file:
        elf = ExtractVmlinux(file.read())
    with open(os.path.join(temporary, "vmlinux"), "wb") as file:
        file.write(elf)
    with open(os.path.join(temporary, "version"), "w", encoding="ascii") as file:
        file.write(version + "\n")
    shutil.rmtree(directory, ignore_errors=True)
    os.rename(temporary, directory)
    Say(f"kernel {name}: {version}")


def ExtractVmlinux(image):
    """The ELF kernel inside a bzImage (Linux' Documentation/arch/x86/boot.rst: payload_offset, payload_length)."""
    if image[0x202:0x206] != b"HdrS" and image[0x1fe:0x200] != b"\x55\xaa":
        raise BuildError("the kernel image is no bzImage")
    setup_sectors = image[0x1f1] or 4
    offset = int.from_bytes(image[0x248:0x24c], "little") + (setup_sectors + 1) * 512
    length = int.from_bytes(image[0x24c:0x250], "little")
    payload = image[offset:offset + length]
    if payload.startswith(b"\xfd7zXZ\0"):
        elf = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
    elif payload.startswith(b"\x1f\x8b"):
        elf = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        # The build appends the uncompressed size in four bytes, which zstd takes for garbage.
        elf = Run(["zstd", "-dcq"], input=payload[:-4], stdout=subprocess.PIPE).stdout
    elif payload.startswith(b"\x02\x21\x4c\x18"):
        elf = Run(["lz4", "-dc"], input=payload[:-4], stdout=subprocess.PIPE).stdout
    else:
        raise BuildError(f"the kernel's payload starts with {payload[:6].hex()}: unknown compression")
    if not elf.startswith(b"\x7fELF"):
        raise BuildError("the kernel's payload is not an ELF file")
    return elf


# --- trees -----------------------------------------------------------------------------------------------------

def BusyboxApplets():
    return Run([BUSYBOX, "--list"], stdout=subprocess.PIPE, text=True).stdout.split()


def ModuleFiles(kernel):
    """Paths (below lib/modules/VERSION) of MODULES and what they need, in load order."""
    version = PathOf("version", kernel)
    base = PathOf("modules", kernel)
    found = []
    for module in MODULES:
        shown = subprocess.run(["/sbin/modprobe", "-d", PathOf("dir", kernel), "-S", version, "--show-depends", module],
                               capture_output=True, text=True)
        for line in shown.stdout.splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == "insmod":
                relative = os.path.relpath(os.path.realpath(words[1]), os.path.realpath(base))
                if relative not in found:
                    found.append(relative)
    return found


def CopyModules(kernel, tree):
    version = PathOf("version", kernel)
    base = PathOf("modules", kernel)
    target = os.path.join(tree, "lib", "modules", version)
    for relative in ModuleFiles(kernel):
        destination = os.path.join(target, relative)
        os.makedirs(os.path.dirname(destination), exist_ok=True)
        source = os.path.join(base, relative)
        # Uncompressed: busybox' modprobe opens few formats, and the guest's CPU is the slow one.
        if relative.endswith(".xz"):
            with lzma.open(source) as file, open(destination[:-3], "wb") as out:
                shutil.copyfileobj(file, out)
        elif relative.endswith(".zst"):
            Run(["zstd", "-dqf", source, "-o", destination[:-4]])
        else:
            shutil.copyfile(source, destination)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        if os.path.exists(os.path.join(base, name)):
            shutil.copyfile(os.path.join(base, name), os.path.join(target, name))
    Run(["/sbin/depmod", "-b", tree, version], stderr=subprocess.DEVNULL)
    for path in glob.glob(os.path.join(target, "modules.*")):
        if os.path.basename(path) not in ("modules.dep", "modules.alias", "modules.symbols", "modules.builtin"):
            os.unlink(path)


def ReplaceFile(source, destination):
    """Copies over a link itself (busybox has applets of many names), not over what it points to."""
    if os.path.lexists(destination):
        os.unlink(destination)
    return shutil.copy2(source, destination)


def CopyTemplate(names, tree):
    for name in names:
        source = os.path.join(TEMPLATE_DIR, name)
        if os.path.isdir(source):
            shutil.copytree(source, tree, dirs_exist_ok=True, copy_function=ReplaceFile)
        else:
            shutil.copy2(source, os.path.join(tree, name))


def Fingerprint(*inputs):
    """A hash over names and contents of files and folders, so that a change of ours rebuilds an artefact."""
    digest = hashlib.sha256()
    for item in inputs:
        paths = [item]
        if os.path.isdir(item):
            paths = sorted(os.path.join(folder, name) for folder, _, names in os.walk(item) for name in names)
        for path in paths:
            digest.update(path.removeprefix(SOURCE_DIR).encode())  # the same in each checkout
            with open(path, "rb") as file:
                digest.update(file.read())
    return digest.hexdigest()


def IsCurrent(path, fingerprint):
    try:
        with open(path + ".stamp", encoding="ascii") as file:
            return os.path.exists(path) and file.read() == fingerprint
    except OSError:
        return False


def Finish(temporary, path, fingerprint):
    os.rename(temporary, path)
    with open(path + ".stamp", "w", encoding="ascii") as file:
        file.write(fingerprint)
    Say(f"made {os.path.relpath(path, SOURCE_DIR)}")


# --- initramfs -------------------------------------------------------------------------------------------------

class CpioWriter:
    """Writes the "newc" format the kernel unpacks. Our own, so that no root is needed for device nodes and owners."""

    def __init__(self, out):
        self._out = out
        self._inode = 0

    def Add(self, name, mode, data=b"", device=(0, 0)):
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = [self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, device[0], device[1], len(encoded), 0]
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        self._Padded(header + encoded)
        self._Padded(data)

    def AddTree(self, tree):
        for folder, directories, names in os.walk(tree):
            directories.sort()
            for name in sorted(directories + names):
                path = os.path.join(folder, name)
                relative = os.path.relpath(path, tree)
                info = os.lstat(path)
                if stat.S_ISLNK(info.st_mode):
                    self.Add(relative, stat.S_IFLNK | 0o777, os.readlink(path).encode())
                elif stat.S_ISDIR(info.st_mode):
                    self.Add(relative, stat.S_IFDIR | 0o755)
                else:
                    with open(path, "rb") as file:
                        self.Add(relative, stat.S_IFREG | (0o755 if info.st_mode & 0o100 else 0o644), file.read())

    def Close(self):
        self.Add("TRAILER!!!", 0)

    def _Padded(self, data):
        self._out.write(data + b"\0" * (-len(data) % 4))


def MakeInitramfs(kernel):
    path = PathOf("initramfs", kernel)
    fingerprint = Fingerprint(TEMPLATE_DIR, __file__, os.path.join(PathOf("dir", kernel), "version"), BUSYBOX)
    if IsCurrent(path, fingerprint):
        return
    tree = path + ".tree"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("bin", "dev", "proc", "sys", "run", "tmp", "mnt", "root", "etc"):
        os.makedirs(os.path.join(tree, name))
    os.symlink("bin", os.path.join(tree, "sbin"))
    shutil.copy2(BUSYBOX, os.path.join(tree, "bin", "busybox"))
    for applet in BusyboxApplets():
        if applet != "busybox":
            os.symlink("busybox", os.path.join(tree, "bin", applet))
    CopyModules(kernel, tree)
    CopyTemplate(["common", "initramfs"], tree)
    temporary = path + ".new"
    with open(temporary, "wb") as out:
        writer = CpioWriter(out)
        writer.AddTree(tree)
        writer.Add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
        writer.Add("dev/null", stat.S_IFCHR | 0o666, device=(1, 3))
        writer.Close()
    shutil.rmtree(tree)
    Finish(temporary, path, fingerprint)


# --- root disk -------------------------------------------------------------------------------------------------

def LibrariesOf(program):
    listed = subprocess.run(["ldd", program], capture_output=True, text=True)
    return re.findall(r"(/\S+) \(0x", listed.stdout)


def CopyProgram(name, tree):
    program = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        Say(f"the host has no {name}; the root disk goes without (tools/setup installs it)")
        return
    destination = os.path.join(tree, "usr", "bin", name)
    if os.path.lexists(destination):
        os.unlink(destination)
    shutil.copy2(program, destination)
    for library in LibrariesOf(program):
        target = os.path.join(tree, os.path.realpath(os.path.dirname(library)).lstrip("/"), os.path.basename(library))
        if library.startswith("/lib64/"):
            target = os.path.join(tree, "lib64", os.path.basename(library))
        if not os.path.exists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy2(os.path.realpath(library), target)


def MakeRoot():
    path = PathOf("root")
    fingerprint = Fingerprint(TEMPLATE_DIR, __file__, BUSYBOX)
    if IsCurrent(path, fingerprint):
        return
    tree = path + ".tree"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("dev", "proc", "sys", "run", "tmp", "mnt", "root", "etc", "usr/bin", "usr/lib", "var/log", "lib64",
                 "lib/modules"):
        os.makedirs(os.path.join(tree, name))
    for name in ("bin", "sbin"):
        os.symlink("usr/bin", os.path.join(tree, name))
    os.symlink("bin", os.path.join(tree, "usr", "sbin"))
    shutil.copy2(BUSYBOX, os.path.join(tree, "usr", "bin", "busybox"))
    for applet in BusyboxApplets():
        if applet != "busybox":
            os.symlink("busybox", os.path.join(tree, "usr", "bin", applet))
    for name in PROGRAMS:
        CopyProgram(name, tree)
    for name in ("/usr/share/misc/pci.ids", "/etc/services", "/etc/protocols"):
        if os.path.exists(name):
            target = os.path.join(tree, name.lstrip("/"))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(os.path.realpath(name), target)
    CopyTemplate(["common", "root"], tree)
    temporary = path + ".new"
    if os.path.exists(temporary):
        os.unlink(temporary)
    Run(["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-L", "crosvm-root", "-E", "root_owner=0:0,lazy_itable_init=1",
         "-d", tree, temporary, "256M"])
    shutil.rmtree(tree)
    Finish(temporary, path, fingerprint)
