"""Runs the command inside the machine of tools/nested-kvm and speaks with the wrapper over a virtio-serial port.

Started as process 1 by nested-init with the run's temporary directory as argument. Four kinds of threads: one takes
frames from the wrapper, one per output stream sends frames, one shows that the machine runs, the main thread reaps.
"""
import errno
import fcntl
import json
import os
import select
import sys
import threading
import time

# `-I` keeps the script's own folder off the path.
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import nested_protocol as protocol  # noqa: E402

PORT_NAME = "crosvm.nested"
CHUNK = 1 << 16


def OpenPort():
    base = "/sys/class/virtio-ports"
    for _ in range(1000):
        if os.path.isdir(base):
            for name in os.listdir(base):
                with open(os.path.join(base, name, "name"), encoding="ascii") as file:
                    if file.read().strip() == PORT_NAME:
                        try:
                            return os.open(os.path.join("/dev", name), os.O_RDWR | os.O_CLOEXEC)
                        except FileNotFoundError:
                            pass
        time.sleep(0.01)
    raise RuntimeError("the virtio port of the wrapper did not appear")


class Agent:
    def __init__(self, config):
        self._config = config
        self._port = OpenPort()
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._pid = None
        self._input = None
        self._terminal = None

    def Send(self, kind, payload=b""):
        with self._lock:
            protocol.WriteAll(self._port, protocol.Pack(kind, payload))

    def Run(self):
        self.Send(protocol.HELLO)
        threading.Thread(target=self._ShowLife, daemon=True).start()
        status = self._RunCommand()
        os.sync()
        self.Send(protocol.EXIT, json.dumps(status).encode())

    def _RunCommand(self):
        config = self._config
        streams = []  # (frame type, fd to read)
        if config["tty"]:
            self._terminal, inside = os.openpty()
            self._input = self._terminal
            self._SetWindow(config["window"])
            child_fds = [inside, inside, inside]
            streams.append((protocol.STDOUT, self._terminal))
        else:
            stdin_read, self._input = os.pipe()
            stdout_read, stdout_write = os.pipe()
            streams.append((protocol.STDOUT, stdout_read))
            child_fds = [stdin_read, stdout_write, stdout_write]
            if not config["merge"]:
                stderr_read, child_fds[2] = os.pipe()
                streams.append((protocol.STDERR, stderr_read))
        failure_read, failure_write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._Exec(child_fds, failure_write)
        os.close(failure_write)
        for fd in set(child_fds):
            os.close(fd)
        threading.Thread(target=self._ReadPort, daemon=True).start()
        pumps = [threading.Thread(target=self._Pump, args=stream, daemon=True) for stream in streams]
        for pump in pumps:
            pump.start()
        # Process 1 inherits every orphan, so it waits for all and looks for its own child.
        while True:
            try:
                pid, status = os.wait()
            except ChildProcessError:
                return {"code": 125}
            if pid == self._pid:
                break
        self._finished.set()
        for pump in pumps:
            pump.join()
        failure = os.read(failure_read, CHUNK)
        if failure:
            return json.loads(failure)
        if os.WIFSIGNALED(status):
            return {"signal": os.WTERMSIG(status)}
        return {"code": os.WEXITSTATUS(status)}

    def _ShowLife(self):
        while True:
            time.sleep(protocol.ALIVE_EVERY)
            self.Send(protocol.ALIVE)

    def _Exec(self, child_fds, failure_fd):
        """In the child: becomes the command, or says through `failure_fd` why not."""
        config = self._config
        try:
            os.setsid()
            for target, fd in enumerate(child_fds):
                os.dup2(fd, target)
            if config["tty"]:
                import termios
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            os.umask(config["umask"])
            os.chdir(config["cwd"])
            os.execvpe(config["argv"][0], config["argv"], config["env"])
        except OSError as error:
            code = 127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126
            os.write(failure_fd, json.dumps(
                {"code": code, "message": f"cannot run {config['argv'][0]!r}: {os.strerror(error.errno)}"}).encode())
        finally:
            os._exit(127)

    def _Pump(self, kind, fd):
        """Until end of file, or until the command has ended and what it wrote is read (others may hold the pipe)."""
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        while True:
            finished = self._finished.is_set()
            if not poller.poll(0 if finished else 200):
                if finished:
                    return
                continue
            try:
                data = os.read(fd, CHUNK)
            except OSError:
                return
            if not data:
                return
            self.Send(kind, data)

    def _ReadPort(self):
        unpacker = protocol.Unpacker()
        while True:
            data = os.read(self._port, CHUNK)
            if not data:
                # No host side: the wrapper is gone, and QEMU with it.
                time.sleep(0.1)
                continue
            for kind, payload in unpacker.Feed(data):
                self._Handle(kind, payload)

    def _Handle(self, kind, payload):
        try:
            if kind == protocol.STDIN and payload:
                if self._input is not None:
                    protocol.WriteAll(self._input, payload)
            elif kind == protocol.STDIN and self._input is not None:
                if self._terminal is not None:
                    os.write(self._terminal, b"\x04")
                else:
                    os.close(self._input)
                    self._input = None
            elif kind == protocol.SIGNAL:
                os.killpg(self._pid, payload[0])
            elif kind == protocol.WINDOW and self._terminal is not None:
                self._SetWindow(json.loads(payload))
        except OSError:
            pass  # The command has closed its input, or is gone: its exit is reported by the main thread.

    def _SetWindow(self, window):
        import struct
        import termios
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", window[0], window[1], 0, 0))


def Main():
    with open(os.path.join(sys.argv[1], "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    try:
        Agent(config).Run()
    except BaseException as error:  # Process 1 must say why before it dies.
        with open("/dev/kmsg", "w", encoding="utf-8") as log:
            log.write(f"nested_agent: {error!r}\n")
    # The wrapper ends the machine on EXIT; should it be gone, this does.
    time.sleep(5)
    with open("/proc/sysrq-trigger", "w", encoding="ascii") as file:
        file.write("o")
    time.sleep(60)


Main()
