"""Keeps the processes of one VM together, so that none can be left behind unseen.

A cgroup where we may make one (root, nested KVM): nothing escapes it. Elsewhere its mark is the value of a limit that
limits nothing (how long a real-time process may run: thousands of years), as every child inherits that.
"""
import os
import resource
import signal
import threading
import time

_CGROUP_ROOT = "/sys/fs/cgroup"
_counter = 0
_lock = threading.Lock()


class ProcessGroup:
    def __init__(self):
        global _counter
        with _lock:
            _counter += 1
            self.mark = f"e2e-{os.getpid()}-{_counter}"
        self._limit = (1 << 60) + (os.getpid() << 24) + _counter
        self._cgroup = None
        path = os.path.join(_CGROUP_ROOT, self.mark)
        if os.path.exists(os.path.join(_CGROUP_ROOT, "cgroup.procs")):
            try:
                os.mkdir(path)
                self._cgroup = path
            except OSError:
                pass
        # Opened here: between fork and exec the child then only writes.
        self._procs = os.open(os.path.join(path, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC) if self._cgroup else None

    def Enter(self):
        """In the child, before exec."""
        if self._procs is not None:
            os.write(self._procs, b"0")
        else:
            resource.setrlimit(resource.RLIMIT_RTTIME, (self._limit, self._limit))

    def Members(self):
        """(pid, command line) of everything that lives."""
        pids = []
        if self._cgroup:
            for folder, _, _ in os.walk(self._cgroup):
                with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as file:
                    pids += [int(word) for word in file.read().split()]
        else:
            wanted = str(self._limit)
            for name in os.listdir("/proc"):
                if name.isdigit():
                    try:
                        with open(f"/proc/{name}/limits", encoding="ascii") as file:
                            if wanted in file.read().split():
                                pids.append(int(name))
                    except OSError:
                        pass
        members = []
        for pid in pids:
            try:
                with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                    state = file.read().rpartition(")")[2].split()[0]
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            if state != "Z" or command:
                members.append((pid, command))
        return members

    def WaitUntilEmpty(self, seconds):
        """What still lives after at most `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            members = self.Members()
            if not members or time.monotonic() >= deadline:
                return members
            time.sleep(0.05)

    def Kill(self):
        for pid, _ in self.Members():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self.WaitUntilEmpty(10)

    def Close(self):
        if self._procs is not None:
            os.close(self._procs)
            self._procs = None
        if self._cgroup:
            try:
                for folder, _, _ in os.walk(self._cgroup, topdown=False):
                    os.rmdir(folder)
            except OSError:
                pass
            self._cgroup = None
