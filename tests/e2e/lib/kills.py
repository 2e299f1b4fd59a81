"""kill -9 of a device's process, again and again.

Tests do so until there were enough deaths, as how many a load sees is the machine's pace; CROSVM_TORTURE=N wants N times as
many.
"""
import contextlib
import os
import signal
import threading

TIMES = int(os.environ.get("CROSVM_TORTURE", "1"))


def PidOf(vm, name):
    """The process of the device with that name; none while it is being replaced."""
    return next((pid for pid, command in vm.Processes() if name in command), None)


@contextlib.contextmanager
def KilledEvery(vm, name, seconds):
    """Gives the list of those that were killed. For a VM with --device-restarts, as three deaths a minute end it else."""
    stop = threading.Event()
    kills = []

    def Kill():
        while not stop.wait(seconds):
            pid = PidOf(vm, name)
            if pid is None or pid in kills:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                kills.append(pid)

    killer = threading.Thread(target=Kill)
    killer.start()
    try:
        yield kills
    finally:
        stop.set()
        killer.join()
        if TIMES > 1:
            print(f"      {len(kills)} kills of {name}", flush=True)
