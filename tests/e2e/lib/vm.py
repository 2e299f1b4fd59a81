"""A virtual machine under test: starts `crosvm run …`, talks to its console, watches how it ends.

    vm = self.Vm(kernel="6.12", options=["--rwdisk", path])
    vm.Boot()                                  # until the guest's dialogue is ready
    vm.Check("cmp /dev/vda /dev/vdb")          # in the guest; status 0 expected; gives the output
    vm.PowerOff()                              # exit status 0 expected

Used by one thread. After the VM has ended, Finish() (called by the test's clean-up too) asserts that it left no
process, no socket and no file behind.
"""
import codecs
import os
import pty
import re
import shutil
import subprocess
import tempfile
import threading
import time
import tty

import settings
from guest_paths import PathOf
from processes import ProcessGroup

BOOT_TIMEOUT = 15
SHELL_TIMEOUT = 15
EXIT_TIMEOUT = 10


class VmError(AssertionError):
    """The VM did something else than the test wants."""


class Console:
    """What the guest writes, collected by a thread; waiting for texts in it."""

    def __init__(self, fd):
        self._fd = fd
        self._text = ""
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._Read, daemon=True)
        self._thread.start()

    def _Read(self):
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        held = ""  # a "\r" whose "\n" may come with the next read
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except OSError:  # EIO: the last opener of a pty's other side is gone
                data = b""
            text = held + decoder.decode(data, final=not data)
            held = "\r" if data and text.endswith("\r") else ""
            with self._changed:
                self._text += text.removesuffix(held).replace("\r\n", "\n")
                self._ended = not data
                self._changed.notify_all()
            if not data:
                return

    @property
    def text(self):
        with self._changed:
            return self._text

    @property
    def ended(self):
        with self._changed:
            return self._ended

    def __len__(self):
        with self._changed:
            return len(self._text)

    def WaitFor(self, pattern, start, deadline):
        """The match of `pattern` at or after `start`; None when time is over, or the console has ended without it."""
        expression = re.compile(pattern, re.MULTILINE)
        with self._changed:
            while True:
                match = expression.search(self._text, start)
                if match or self._ended:
                    return match
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)

    def Join(self):
        self._thread.join(5)


class Vm:
    """One `crosvm run`. `options` go before the kernel; `test_mode` is what the guest does (see guest.sh)."""

    def __init__(self, kernel="6.12", image="vmlinux", initrd=True, mem=256, cpus=1, params="", test_mode="shell",
                 options=(), disks=(), terminal=False, socket=False, quiet=True, kernel_path=None):
        self.directory = tempfile.mkdtemp(prefix="vm-", dir=settings.work_dir)
        self.socket = os.path.join(self.directory, "control.sock") if socket else None
        self._group = ProcessGroup()
        self._process = None
        self._console = None
        self._position = 0
        self._sequence = 0
        self._status = None
        self._finished = False
        self._terminal = terminal
        self._input = None
        self._own_files = set()
        words = [params]
        if quiet:
            words.append("quiet")
        if test_mode:
            words.append(f"crosvm.test={test_mode}")
        self._params = " ".join(word for word in words if word)
        self._kernel_path = PathOf(image, kernel) if kernel_path is None else kernel_path
        self._initrd = PathOf("initramfs", kernel) if initrd else None
        self._mem, self._cpus, self._options, self._disks = mem, cpus, list(options), list(disks)

    # --- starting ----------------------------------------------------------------------------------------------

    def Command(self):
        if settings.backend == "qemu":
            return self._QemuCommand()
        command = [settings.binary, "run", "-m", str(self._mem), "-c", str(self._cpus)]
        if not settings.sandbox:
            command.append("--disable-sandbox")
        if self.socket:
            command += ["-s", self.socket]
        if self._initrd:
            command += ["-i", self._initrd]
        # Before the disks: the root disk is vda.
        command += self._options
        for disk in self._disks:
            command += ["--rwdisk" if disk.writable else "--disk", ",".join([disk.path, *disk.suboptions])]
        if self._params:
            command += ["-p", self._params]
        return command + ([self._kernel_path] if self._kernel_path != "" else [])

    def _QemuCommand(self):
        if self._options or self.socket:
            raise VmError("this test needs crosvm's own options")
        command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-M", "microvm,pcie=on,rtc=on", "-enable-kvm",
                   "-cpu", "host", "-m", str(self._mem), "-smp", str(self._cpus), "-kernel", self._kernel_path,
                   "-append", "console=ttyS0 reboot=t panic=-1 " + self._params, "-serial", "stdio", "-display", "none",
                   "-no-reboot"]
        if self._initrd:
            command += ["-initrd", self._initrd]
        for index, disk in enumerate(self._disks):
            command += ["-drive", f"if=none,id=d{index},file={disk.path},format=raw,discard=unmap,"
                                  f"readonly={'off' if disk.writable else 'on'}",
                        "-device", f"virtio-blk-pci,drive=d{index}"]
        return command

    def Start(self):
        """Starts the process; does not wait for the guest."""
        self._own_files = set(os.listdir(self.directory))
        if self._terminal:
            outer, inner = pty.openpty()
            tty.setraw(inner)
            self._input, console_fd = outer, outer
            child_in = child_out = inner
            self._terminal_before = self.TerminalState()
        else:
            child_in, self._input = os.pipe()
            console_fd, child_out = os.pipe()
        environment = dict(os.environ, TMPDIR=self.directory, XDG_RUNTIME_DIR=self.directory)
        stderr = open(self.directory + ".stderr", "wb")
        self.started = time.monotonic()
        self._process = subprocess.Popen(self.Command(), stdin=child_in, stdout=child_out, stderr=stderr,
                                         cwd=self.directory, env=environment, preexec_fn=self._group.Enter)
        stderr.close()
        if not self._terminal:
            os.close(child_in)
            os.close(child_out)
        else:
            self._terminal_inner = inner
        self._console = Console(console_fd)

    def TerminalState(self):
        import termios
        return termios.tcgetattr(self._input)

    def Boot(self, timeout=BOOT_TIMEOUT):
        """Starts, and waits for the guest's dialogue."""
        self.Start()
        self.WaitFor(r"crosvm-guest: ready\n", timeout)

    # --- talking -----------------------------------------------------------------------------------------------

    @property
    def console(self):
        return self._console.text if self._console else ""

    @property
    def stderr(self):
        try:
            with open(self.directory + ".stderr", encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    @property
    def pid(self):
        return self._process.pid

    def Processes(self):
        return self._group.Members()

    def WaitFor(self, pattern, timeout=SHELL_TIMEOUT):
        """Waits for `pattern` in what the guest writes after the previous match; gives the match."""
        limit = timeout * settings.time_scale
        match = self._console.WaitFor(pattern, self._position, time.monotonic() + limit)
        if not match:
            try:  # its console may be gone a moment before it
                status = self._process.wait(5 if self._console.ended else 0)
            except subprocess.TimeoutExpired:
                status = None
            how = f"crosvm ended with status {status}" if status is not None else f"not within {limit:g} s"
            raise VmError(f"the guest did not write {pattern!r}: {how}")
        self._position = match.end()
        return match

    def Send(self, text):
        data = text.encode()
        while data:
            data = data[os.write(self._input, data):]

    def Shell(self, command, timeout=SHELL_TIMEOUT):
        """Runs a command line in the guest: (status, output)."""
        self._sequence += 1
        start = self._position
        self.Send(f"{self._sequence} {command}\n")
        match = self.WaitFor(rf"@@{self._sequence} (\d+)@@\n", timeout)
        return int(match.group(1)), self._console.text[start:match.start()]

    def Check(self, command, timeout=SHELL_TIMEOUT):
        """As Shell, but anything but status 0 is a failure."""
        status, output = self.Shell(command, timeout)
        if status != 0:
            raise VmError(f"in the guest, `{command}` gave status {status}: {output.strip()[-2000:]}")
        return output

    def Control(self, *words, expected=0, timeout=EXIT_TIMEOUT):
        """Runs `crosvm WORDS… SOCKET`; gives its standard output."""
        done = subprocess.run([settings.binary, *words, self.socket], capture_output=True, text=True,
                              timeout=timeout * settings.time_scale)
        if done.returncode != expected:
            raise VmError(f"crosvm {' '.join(words)} gave status {done.returncode}, not {expected}: "
                          f"{done.stdout}{done.stderr}")
        return done.stdout

    # --- ending ------------------------------------------------------------------------------------------------

    def Wait(self, timeout=EXIT_TIMEOUT):
        """Waits for crosvm's end; gives the exit status (negative: minus the signal)."""
        try:
            self._status = self._process.wait(timeout * settings.time_scale)
        except subprocess.TimeoutExpired:
            raise VmError(f"crosvm did not end within {timeout * settings.time_scale:g} s") from None
        if self._terminal:
            os.close(self._terminal_inner)
        self._console.Join()
        return self._status

    def ExpectExit(self, status, timeout=EXIT_TIMEOUT):
        got = self.Wait(timeout)
        if settings.backend == "qemu":
            status = 0  # it has one status for every way out
        if got != status:
            raise VmError(f"crosvm ended with status {got}, not {status}")
        self.Finish()

    def PowerOff(self, timeout=EXIT_TIMEOUT):
        self._sequence += 1
        self.Send(f"{self._sequence} sync; poweroff -f\n")
        self.ExpectExit(0, timeout)

    def Signal(self, number):
        self._process.send_signal(number)

    def Finish(self):
        """Asserts that nothing is left behind. Only for a VM that has ended by itself."""
        if self._finished:
            return
        self._finished = True
        members = self._group.WaitUntilEmpty(2 * settings.time_scale)
        left = sorted(set(os.listdir(self.directory)) - self._own_files)
        if members:
            raise VmError("processes left behind: " + "; ".join(f"{pid} {command}" for pid, command in members))
        if left:
            raise VmError("files left behind: " + ", ".join(left))

    def Close(self):
        """Ends and removes everything, without any opinion."""
        self._group.Kill()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._group.Close()
        shutil.rmtree(self.directory, ignore_errors=True)
        try:
            os.unlink(self.directory + ".stderr")
        except OSError:
            pass

    def Report(self):
        """For the log of a failed test."""
        parts = ["command: " + " ".join(self.Command()), f"status: {self._status}"]
        for name, text in (("standard error", self.stderr), ("console", self.console)):
            lines = text.splitlines()[-40:]
            parts.append(f"{name} (last {len(lines)} lines):")
            parts += ["  | " + line for line in lines]
        return "\n".join(parts)
