"""The suite on a host without hardware KVM: in several machines of tools/nested-kvm at a time, of one processor each.

An emulated machine has faults of its own (docs/nested-kvm.md), and two things follow. One that dies is replaced, and what
it had begun is begun again. Classes that failed are run once more, in new machines, unless they are many: no fault of
ours goes away by itself. Both are said in the output.
"""
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import host_kvm
import ledgers

MEMORY = 6144  # MiB of each, in which a guest of 5 GiB must fit
OPTIONS = ["--cpus", "1", "--mem", str(MEMORY)]
MOST_DEATHS = 6
MOST_AGAIN = 16  # classes; when more fail, something is broken

printing = threading.Lock()


def Print(text):
    with printing:
        sys.stdout.write(text)
        sys.stdout.flush()


class Machine:
    """One machine, and its successor when it dies. Runs what the ledger still has to give."""

    def __init__(self, name, folder):
        self._name = name
        self._folder = folder
        self._ledger = ledgers.Ledger(folder)
        self._child = None
        self._ended = False
        self.status = None

    def Run(self):
        for _ in range(MOST_DEATHS):
            if self._ended:
                return
            self._child = subprocess.Popen(
                host_kvm.NestedCommand(OPTIONS), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace",
                env=dict(os.environ, **{ledgers.VARIABLE: self._folder, ledgers.OWNER: self._name}))
            self._PassOn(self._child.stdout)
            self.status = self._child.wait()
            if self.status != host_kvm.MACHINE_DIED:
                return
            names = self._ledger.Release(self._name)
            Print(f"{self._name} died and is started again; run anew: {', '.join(names) or 'nothing'}\n")

    def End(self, number):
        self._ended = True
        if self._child is not None:
            self._child.send_signal(number)

    @staticmethod
    def _PassOn(lines):
        """Whole lines, and what belongs to a failure (it is indented) in one piece."""
        held = ""
        for line in lines:
            if held and not line.startswith("    "):
                Print(held)
                held = ""
            if held or line.startswith("FAIL"):
                held += line
            else:
                Print(line)
        Print(held)


def RunRound(jobs, folder):
    """Runs every class that the ledger in `folder` does not hold yet. False when a machine failed otherwise than by dying."""
    machines = [Machine(f"machine {i + 1}", folder) for i in range(jobs)]
    threads = [threading.Thread(target=machine.Run) for machine in machines]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: [machine.End(number) for machine in machines])
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return all(machine.status == 0 for machine in machines)


def Fitting(jobs):
    """So many machines, or as many as the host has memory for."""
    with open("/proc/meminfo", encoding="ascii") as file:
        available = next(int(line.split()[1]) >> 10 for line in file if line.startswith("MemAvailable:"))
    return max(1, min(jobs, available // (MEMORY + 512)))


def Round(folder, number):
    """The ledger of a round, into which the suite may write as an ordinary user."""
    path = os.path.join(folder, str(number))
    ledger = ledgers.Ledger(path)
    os.chmod(path, 0o777)
    return ledger


def Run(jobs, usage, whole_suite):
    """`usage` (policy_usage.Usage or None) reads what the machines recorded, and judges it."""
    jobs = Fitting(jobs)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="e2e-ledger-") as folder:
        os.chmod(folder, 0o755)  # the suite may run as an ordinary user inside
        first = Round(folder, 1)
        good = RunRound(jobs, first.folder)
        ended = first.Ended()
        failed = sorted(name for name, counts in ended.items() if counts[1])
        if good and failed and len(failed) <= MOST_AGAIN:
            Print(f"once more, as these machines are emulated: {', '.join(failed)}\n")
            second = Round(folder, 2)
            for name in ended:
                if name not in failed:
                    second.Claim(name, "passed")
            good = RunRound(min(jobs, len(failed)), second.folder)
            again = second.Ended()
            mended = [name for name in failed if name in again and not again[name][1]]
            Print(f"{len(mended)} of {len(failed)} passed the second time: {', '.join(mended)}\n")
            ended.update(again)
            if usage:
                usage.Read(second.folder)
        totals = ledgers.Sum(ended)
        if usage:
            usage.Read(first.folder)
            totals = ledgers.Add(totals, usage.Judge(whole_suite))
        status = ledgers.Conclude(totals, started)
    return status or (0 if good else 1)
