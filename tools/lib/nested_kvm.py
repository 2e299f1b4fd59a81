"""The host side of tools/nested-kvm: starts virtiofsd and QEMU, carries input and output, ends and removes everything.

What makes the clean-up hold: children die with us (PR_SET_PDEATHSIG), a watcher process removes the temporary directory
even after SIGKILL, virtiofsd ends with its connection.
"""
import argparse
import ctypes
import errno
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import tty

import nested_protocol as protocol
from guest_paths import KERNELS, SOURCE_DIR, PathOf

LIB_DIR = os.path.dirname(os.path.realpath(__file__))
QEMU = "qemu-system-x86_64"
VIRTIOFSD = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"]
MODULES = ["kvm-amd", "vhost_vsock", "vhost_net", "tun", "vfio-pci", "loop"]
BOOT_TIMEOUT = 180.0
# Emulated SVM may lose the outer kernel's timer interrupt; what runs in the guest then is never interrupted again.
SILENCE_TIMEOUT = 120.0
GRACE = 5.0
PR_SET_PDEATHSIG = 1
NOISE = "TCG doesn't support requested feature"  # a dozen lines of it in every run
FATAL = re.compile(r"Kernel panic|BUG: |Oops: |general protection fault|invalid opcode: ")

FAILED = 125
TIMED_OUT = 124


class NestedError(Exception):
    """The outer machine cannot be started or has failed; the text says why and what to do."""


def ParseArguments(argv, usage):
    if "-h" in argv[:1] or "--help" in argv[:argv.index("--") if "--" in argv else len(argv)]:
        print(usage.strip())
        sys.exit(0)
    parser = argparse.ArgumentParser(prog="tools/nested-kvm", add_help=False,
                                     usage="tools/nested-kvm [options] -- COMMAND [ARGUMENT...]   (--help says more)")
    parser.add_argument("--kernel", default="6.12")
    parser.add_argument("--modules")
    parser.add_argument("--mem", type=int, default=3072)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--cpu", default="EPYC,+svm,+npt")
    parser.add_argument("--icount", action="store_true")
    parser.add_argument("--cache", choices=["always", "auto"], default="always")
    parser.add_argument("--module", action="append", default=[])
    parser.add_argument("--append", default="")
    parser.add_argument("--qemu-arg", action="append", default=[])
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--tty", dest="tty", action="store_true", default=None)
    parser.add_argument("--no-tty", dest="tty", action="store_false")
    parser.add_argument("--verbose", action="store_true")
    if "--" not in argv:
        parser.error("put the command after `--`")
    split = argv.index("--")
    # argparse takes a value that starts with a dash for an option of its own.
    own = []
    for word in argv[:split]:
        if own and own[-1] == "--qemu-arg":
            own[-1] = f"--qemu-arg={word}"
        else:
            own.append(word)
    args = parser.parse_args(own)
    args.command = argv[split + 1:]
    if not args.command:
        parser.error("no command after `--`")
    if args.mem < 512:
        parser.error(f"--mem {args.mem}: the outer machine needs at least 512 MiB")
    if args.tty is None:
        args.tty = os.isatty(0) and os.isatty(1)
    if args.icount:
        args.cpus = 1
    return args


def FindQemu():
    """The command that starts QEMU: the one of tools/guest, fetched on first use, or else that of the system."""
    folder = PathOf("qemu")
    refused = folder + ".refused"  # is not asked for again until `tools/guest clean`
    if not os.path.exists(os.path.join(folder, "version")) and not os.path.exists(refused):
        tool = os.path.join(SOURCE_DIR, "tools", "guest")
        if subprocess.run([tool, "qemu"], stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode != 0:
            print("nested-kvm: going on with the system's QEMU", file=sys.stderr)
            with open(refused, "w", encoding="ascii"):
                pass
    if os.path.exists(os.path.join(folder, "version")):
        share = os.path.join(folder, "usr", "share")
        return [os.path.join(folder, "usr", "bin", QEMU), "-L", os.path.join(share, "qemu"), "-L",
                os.path.join(share, "seabios")]
    if shutil.which(QEMU) is None:
        raise NestedError(f"{QEMU} is not installed; run tools/setup")
    return [QEMU]


def FindVirtiofsd():
    for path in VIRTIOFSD:
        if os.access(path, os.X_OK):
            return path
    raise NestedError("virtiofsd is not installed; run tools/setup (Debian 12: package qemu-system-common)")


def FindKernel(args):
    """(bzImage, initramfs or None, directory to give to `modprobe -d` or None)."""
    if args.kernel in KERNELS:
        tool = os.path.join(SOURCE_DIR, "tools", "guest")
        # What is there is used as it is: another user's tree may be read-only for us.
        present = os.path.exists(os.path.join(PathOf("dir", args.kernel), "version"))
        if not present and subprocess.run([tool, "kernel", args.kernel], stdin=subprocess.DEVNULL,
                                          stdout=sys.stderr).returncode != 0:
            raise NestedError(f"kernel {args.kernel} could not be fetched (see above); "
                              "give one with --kernel PATH --modules DIR")
        with open(os.path.join(PathOf("dir", args.kernel), "config"), encoding="ascii") as file:
            built_in = "CONFIG_VIRTIO_FS=y" in file.read()
        initramfs = None
        if not built_in:
            if subprocess.run([tool, "initramfs", args.kernel], stdin=subprocess.DEVNULL).returncode != 0:
                raise NestedError(f"the initramfs of kernel {args.kernel} could not be made (see above)")
            initramfs = PathOf("initramfs", args.kernel)
        return PathOf("vmlinuz", args.kernel), initramfs, PathOf("dir", args.kernel)
    if not os.path.isfile(args.kernel):
        raise NestedError(f"--kernel {args.kernel}: neither a file nor one of {', '.join(KERNELS)}")
    modules = args.modules
    if modules is None:
        return args.kernel, None, os.path.dirname(os.path.realpath(args.kernel))
    # modprobe wants the directory that holds lib/modules/VERSION.
    suffix = os.path.join("lib", "modules")
    root = os.path.dirname(os.path.realpath(modules))
    if not root.endswith(suffix):
        raise NestedError(f"--modules {modules}: expected a path that ends in lib/modules/VERSION")
    return args.kernel, None, root[:-len(suffix)]


def DieWithParent():
    """In a child before exec. Own process group: a terminal's ^C is for the command inside, not for QEMU."""
    os.setpgid(0, 0)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def StartWatcher(directory):
    """A process that removes `directory` when we are gone, however that happened. Returns our end of its pipe."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        try:
            os.setsid()
            null = os.open("/dev/null", os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            os.closerange(3, read_end)
            os.closerange(read_end + 1, 1024)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, signal.SIG_IGN)
            os.chdir("/")
            os.read(read_end, 1)
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os._exit(0)
    os.close(read_end)
    return write_end


def LogTail(path, lines=25):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return ""
    shown = [line.rstrip() for line in text.splitlines() if NOISE not in line]
    # A kernel that died says why first, and how at length.
    cause = next((i for i, line in enumerate(shown) if FATAL.search(line)), None)
    if cause is not None:
        shown, lines = shown[max(0, cause - 3):cause + 60], 63
    return "\n".join("    " + line for line in shown[-lines:])


class Machine:
    """The outer machine of one run. Use as a context manager: leaving it ends and removes everything."""

    def __init__(self, args):
        self._args = args
        self._children = []
        self._directory = None
        self._watcher = None
        self._port = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.Stop()

    def Path(self, name):
        return os.path.join(self._directory, name)

    @property
    def port(self):
        return self._port

    def Start(self):
        args = self._args
        virtiofsd = FindVirtiofsd()
        qemu = FindQemu()
        kernel, initramfs, modules = FindKernel(args)
        self._directory = tempfile.mkdtemp(prefix="nested-kvm.")
        self._watcher = StartWatcher(self._directory)
        if modules and os.path.isdir(os.path.join(modules, "lib", "modules")):
            os.symlink(os.path.realpath(modules), self.Path("modules"))
        self._WriteConfig()
        self._StartVirtiofsd(virtiofsd)
        self._StartQemu(qemu, kernel, initramfs)

    def _WriteConfig(self):
        args = self._args
        stdout, stderr = os.fstat(1), os.fstat(2)
        config = {
            "argv": args.command,
            "cwd": os.getcwd(),
            "env": dict(os.environ, CROSVM_NESTED_KVM="1"),
            "umask": os.umask(0o022),
            "tty": args.tty,
            "window": WindowSize(),
            # One pipe for both when both go to one place: their order is then kept.
            "merge": (stdout.st_dev, stdout.st_ino) == (stderr.st_dev, stderr.st_ino),
        }
        os.umask(config["umask"])
        with open(self.Path("config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)

    def _Spawn(self, command, log, pass_fds=()):
        if self._args.verbose:
            print("nested-kvm: " + " ".join(command), file=sys.stderr)
        output = open(self.Path(log), "wb")
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=pass_fds,
                                 preexec_fn=DieWithParent)
        output.close()
        self._children.append((command[0], child, log))
        return child

    def _StartVirtiofsd(self, virtiofsd):
        # We make the listening socket ourselves: given a path, virtiofsd also keeps a lock file in /run.
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.Path("fs.sock"))
        listener.listen(1)
        command = [virtiofsd, f"--fd={listener.fileno()}", "-f", "-o", "source=/", "-o", f"cache={self._args.cache}",
                   "-o", "sandbox=chroot", "-o", "announce_submounts", "-o", "xattr", "-o", "allow_direct_io",
                   "-o", "log_level=err"]
        if os.geteuid() != 0:
            # Root of a user namespace that maps only us: enough for chroot, and files stay ours.
            command = ["unshare", "--user", "--map-root-user", "--"] + command + ["--rlimit-nofile=0"]
        self._Spawn(command, "virtiofsd.log", pass_fds=(listener.fileno(),))
        listener.close()

    def _StartQemu(self, qemu, kernel, initramfs):
        args = self._args
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        init = os.path.join(LIB_DIR, "nested-init")
        append = (f"console=ttyS0 {'' if args.verbose else 'quiet '}panic=-1 rootfstype=virtiofs root=rootfs rw {args.append} "
                  f"init={init} -- {self._directory} {sys.executable} {os.path.join(LIB_DIR, 'nested_agent.py')} "
                  + " ".join(MODULES + args.module))
        command = [*qemu, "-nodefaults", "-no-user-config", "-M", "q35", "-cpu", args.cpu, "-smp", str(args.cpus), "-m", str(args.mem)]
        if args.icount:
            command += ["-accel", "tcg,thread=single", "-icount", "shift=0"]
        else:
            command += ["-accel", "tcg,thread=multi"]
        command += [
            "-object", f"memory-backend-memfd,id=mem,size={args.mem}M,share=on", "-numa", "node,memdev=mem",
            "-chardev", f"socket,id=fs,path={self.Path('fs.sock')}",
            "-device", "vhost-user-fs-pci,chardev=fs,tag=rootfs,queue-size=1024",
            "-device", "virtio-rng-pci",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,fd={theirs.fileno()}",
            "-device", "virtserialport,chardev=agent,name=crosvm.nested",
            "-kernel", kernel, "-append", append,
            "-chardev", f"file,id=console,path={self.Path('console.log')}", "-serial", "chardev:console",
            "-monitor", "none", "-display", "none", "-no-reboot",
        ]
        if initramfs:
            command += ["-initrd", initramfs]
        self._Spawn(command + args.qemu_arg, "qemu.log", pass_fds=(theirs.fileno(),))
        theirs.close()
        self._port = ours

    def Explain(self, what):
        """An error text with what the parts of the machine said."""
        text = what
        for name, child, log in self._children:
            state = child.poll()
            tail = LogTail(self.Path(log))
            if state is not None:
                text += f"\n  {os.path.basename(name)} ended with status {state}"
            if tail:
                text += f"\n  {log}:\n{tail}"
        tail = LogTail(self.Path("console.log"))
        if tail:
            text += f"\n  console of the outer kernel:\n{tail}"
        if os.geteuid() != 0:
            text += ("\n  as an ordinary user this needs user namespaces: "
                     "`sysctl kernel.unprivileged_userns_clone user.max_user_namespaces`")
        return text

    def Stop(self):
        for _, child, _ in reversed(self._children):
            if child.poll() is None:
                try:
                    os.killpg(child.pid, signal.SIGKILL)
                except OSError:
                    child.kill()
            child.wait()
        if self._port is not None:
            self._port.close()
        if self._args.verbose and self._directory:
            print(LogTail(self.Path("console.log"), 1000), file=sys.stderr)
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
        if self._watcher is not None:
            os.close(self._watcher)


def WindowSize():
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(1, termios.TIOCGWINSZ, b"\0" * 8))
        return [rows or 24, columns or 80]
    except OSError:
        return [24, 80]


class Relay:
    """Carries bytes and signals between us and the agent until the command has ended."""

    def __init__(self, machine, args):
        self._machine = machine
        self._args = args
        self._wakeup, write_end = os.pipe()
        os.set_blocking(write_end, False)
        os.set_blocking(self._wakeup, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH):
            signal.signal(number, lambda *_: None)
        self._ended_by = None
        self._kill_at = None

    def Run(self):
        port = self._machine.port
        poller = select.poll()
        poller.register(port, select.POLLIN)
        poller.register(self._wakeup, select.POLLIN)
        stdin_open = True
        greeted = False
        now = time.monotonic()
        patience = 4 if self._args.icount else 1
        boot_deadline = now + BOOT_TIMEOUT * patience
        command_deadline = None
        heard = now
        unpacker = protocol.Unpacker()
        while True:
            now = time.monotonic()
            silence_deadline = heard + SILENCE_TIMEOUT * patience
            deadlines = [d for d in (silence_deadline if greeted else boot_deadline, command_deadline, self._kill_at) if d]
            events = dict(poller.poll(max(0, min(deadlines) - now) * 1000 + 1))
            now = time.monotonic()
            if port.fileno() in events:
                heard = now
            elif greeted and now >= silence_deadline:
                raise NestedError(self._machine.Explain("the outer machine hangs"))
            if not greeted and now >= boot_deadline:
                raise NestedError(self._machine.Explain("the outer machine did not start in time"))
            if self._kill_at and now >= self._kill_at:
                return self._ended_by
            if command_deadline and now >= command_deadline:
                command_deadline = None
                print(f"nested-kvm: the command did not end within {self._args.timeout:g} s", file=sys.stderr)
                self._End(signal.SIGTERM, TIMED_OUT)
            if self._wakeup in events:
                for number in os.read(self._wakeup, 64):
                    if number == signal.SIGWINCH:
                        self._Send(protocol.WINDOW, json.dumps(WindowSize()).encode())
                    elif not greeted or self._kill_at:
                        return 128 + number
                    else:
                        self._End(number, 128 + number)
            if 0 in events and greeted:
                try:
                    data = os.read(0, 1 << 14)
                except OSError:
                    data = b""
                if not data:
                    stdin_open = False
                    poller.unregister(0)
                self._Send(protocol.STDIN, data)
            if port.fileno() in events:
                try:
                    data = port.recv(1 << 16)
                except ConnectionError:
                    data = b""
                if not data:
                    raise NestedError(self._machine.Explain("the outer machine has died"))
                for kind, payload in unpacker.Feed(data):
                    if kind == protocol.HELLO:
                        greeted = True
                        if self._args.timeout:
                            command_deadline = time.monotonic() + self._args.timeout
                        if stdin_open:
                            try:
                                poller.register(0, select.POLLIN)
                            except OSError:
                                stdin_open = False
                    elif kind == protocol.STDOUT:
                        self._Output(1, payload)
                    elif kind == protocol.STDERR:
                        self._Output(2, payload)
                    elif kind == protocol.EXIT:
                        return self._ExitStatus(json.loads(payload))

    def _ExitStatus(self, status):
        if "message" in status:
            print(f"nested-kvm: {status['message']}", file=sys.stderr)
        if self._ended_by == TIMED_OUT:
            return TIMED_OUT
        return 128 + status["signal"] if "signal" in status else status["code"]

    def _End(self, number, status):
        """Passes the signal on; whatever the command makes of it, a while later all is over."""
        self._Send(protocol.SIGNAL, bytes([number]))
        self._ended_by = status
        self._kill_at = time.monotonic() + GRACE

    def _Send(self, kind, payload):
        try:
            self._machine.port.sendall(protocol.Pack(kind, payload))
        except ConnectionError:
            pass  # Its end is seen, and explained, by the reading side.

    def _Output(self, fd, data):
        try:
            protocol.WriteAll(fd, data)
        except OSError as error:
            # Whoever read our output is gone: behave as the command would at home.
            if error.errno == errno.EPIPE:
                self._End(signal.SIGPIPE, 128 + signal.SIGPIPE)
            else:
                raise


def Main(argv, usage):
    args = ParseArguments(argv, usage)
    saved = termios.tcgetattr(0) if args.tty and os.isatty(0) else None
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        with Machine(args) as machine:
            relay = Relay(machine, args)
            machine.Start()
            if saved:
                tty.setraw(0)
            return relay.Run()
    except NestedError as error:
        if saved:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
        print(f"nested-kvm: {error}", file=sys.stderr)
        return FAILED
    finally:
        if saved:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
