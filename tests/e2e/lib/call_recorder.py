"""Which system calls confined processes make, counted by the kernel's tracing, for `tests/e2e/run --policy-usage`.

A probe on syscall_trace_enter(), through which the calls of threads with a filter go, feeds histograms: one by thread
and call, others by the arguments that rules look at. They keep the time of the last such call; another probe notes
when a thread installed which filter. A call belongs to a filter when the last one of its kind was made after that
filter was installed, by the thread that installed it or, as it was for the whole process, by another of the process.
So nothing counts that was done before, and what a vCPU thread did under the VMM's wider filter is told from what it
did under its own.

A histogram has three keys at the most, which is why there is one for each call with arguments.

Needs root, x86-64, tracefs and a kernel with probe events and histograms (CONFIG_KPROBE_EVENTS, CONFIG_HIST_TRIGGERS).
"""
import os
import re

import policies

TRACING = "/sys/kernel/tracing"
SIZE = 32768  # entries of a histogram; the kernel says when they did not suffice
CLONE_THREAD = 0x10000
FOR_THE_PROCESS = 1  # SECCOMP_FILTER_FLAG_TSYNC
OURS = re.compile(r"crosvm|vcpu\d+|[\w-]+\[\d+\]")  # QEMU and virtiofsd have filters of their own
FILTERED = "(work & 1)"  # SYSCALL_WORK_SECCOMP
# pt_regs: rdi, rsi, rdx, r10, r8, r9
REGISTERS = (112, 104, 96, 56, 72, 64)


def Append(path, line):
    """These files cannot be positioned in, which Python's own appending wants to."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, line.encode() + b"\n")
    finally:
        os.close(file)


class Histogram:
    """A hist trigger of one event. `keys` become the entries' fields; `last` keeps the time of the last hit."""

    def __init__(self, event, keys, condition="", last=None):
        self._folder = os.path.join(TRACING, "events", event)
        self._keys = keys
        self._last = last
        self._words = [f"hist:keys={','.join(keys)}"]
        if last:
            self._words.append(f"{last}=common_timestamp:onmax(${last}).save({keys[-1]})")
        self._words.append(f"size={SIZE}")
        self._condition = f" if {condition}" if condition else ""
        number = r"(?:0x)?[0-9a-f]+"
        fields = [rf"{key}: (?P<{key}>.*?)\s*" if key == "comm" else rf"{key}:\s+(?P<{key}>{number})" for key in keys]
        self._entry = re.compile(r"\{ " + ", ".join(fields) + r" \} hitcount:\s+\d+\s*" +
                                 (r"max:\s+(?P<last>\d+)" if last else ""))

    def Start(self):
        Append(os.path.join(self._folder, "trigger"), ":".join(self._words) + self._condition)

    def Stop(self):
        Append(os.path.join(self._folder, "trigger"), "!" + ":".join(self._words) + self._condition)

    def Take(self):
        """The entries, {key: value}; they are forgotten here."""
        with open(os.path.join(self._folder, "hist"), encoding="ascii", errors="replace") as file:
            sections = file.read().split("# event histogram\n")[1:]
        # Its definition is repeated there; the variable is its name.
        section = next(section for section in sections if f":{self._last}=common_timestamp:" in section or not self._last)
        if int(re.search(r"Dropped: (\d+)", section).group(1)):
            raise RuntimeError(f"a histogram of {SIZE} entries was too small: {self._words[0]}")
        entries = [{key: value if key == "comm" else int(value, 0) for key, value in match.groupdict().items()}
                   for match in self._entry.finditer(section)]
        if len(entries) != int(re.search(r"Entries: (\d+)", section).group(1)):
            raise RuntimeError(f"a histogram is not as expected: {section[:2000]}")
        self.Stop()
        self.Start()
        return entries


class Recorder:
    """Records from its making on. Used by one thread."""

    def __init__(self, known):
        """`known`: {name: policies.Policy}"""
        self._known = known
        if os.geteuid() != 0 or not os.path.exists(os.path.join(TRACING, "kprobe_events")):
            raise SystemExit(f"tests/e2e/run: --policy-usage needs root, and a kernel with {TRACING}/kprobe_events")
        arguments = " ".join(f"a{index}=+{offset}(%di):x64" for index, offset in enumerate(REGISTERS))
        self._Probe("call", f"syscall_trace_enter nr=%si:s32 work=%dx:u64 {arguments}")
        op, flags, program = (f"+{offset}(%di)" for offset in REGISTERS[:3])
        self._Probe("installation", f"__x64_sys_seccomp op={op}:u32 flags={flags}:u32 len=+u0({program}):u16 comm=$comm")
        self._filters = [(flag, Histogram("crosvm_tests/installation", ["common_pid", "comm", "len"],
                                          f"op == 1 && flags {'&' if flag else '!='} {FOR_THE_PROCESS}", f"installed{flag}"))
                         for flag in (0, FOR_THE_PROCESS)]
        self._threads = Histogram("task/task_newtask", ["common_pid", "pid", "clone_flags"])
        self._calls = [((), None, Histogram("crosvm_tests/call", ["common_pid", "nr"], FILTERED, "last"))]
        self._looked_at = policies.ArgumentsLookedAt(known)
        for number, indices in sorted(self._looked_at.items()):
            self._calls.append((indices, number, Histogram(
                "crosvm_tests/call", ["common_pid", *(f"a{index}" for index in indices)],
                f"{FILTERED} && nr == {number}", f"last{number}")))
        for histogram in [self._threads, *(filters for _, filters in self._filters), *(calls for *_, calls in self._calls)]:
            histogram.Start()

    @staticmethod
    def _Probe(name, what):
        if not os.path.exists(os.path.join(TRACING, "events", "crosvm_tests", name)):
            Append(os.path.join(TRACING, "kprobe_events"), f"p:crosvm_tests/{name} {what}")

    def Take(self):
        """What was recorded since the last time, to be called while nothing confined runs:
        {"processes": {policy: count}, "strangers": [name of a thread], "calls": [[policy, number, {argument: value}]]}."""
        parents = {entry["pid"]: entry["common_pid"] for entry in self._threads.Take()
                   if entry["clone_flags"] & CLONE_THREAD}
        for_process, for_thread, strangers, processes = {}, {}, {}, {}
        for flag, histogram in self._filters:
            for entry in histogram.Take():
                thread = entry["common_pid"]
                process = self._ProcessOf(thread, parents)
                policy = self._PolicyOf(entry["comm"], entry["len"])
                if policy is None:
                    if OURS.fullmatch(entry["comm"]):
                        strangers.setdefault(process, entry["comm"])
                    continue
                scope = for_process.setdefault(process, {}) if flag else for_thread.setdefault(thread, {})
                scope[policy] = entry["last"]
                processes[policy] = processes.get(policy, 0) + 1
        calls = set()
        for indices, number, histogram in self._calls:
            for entry in histogram.Take():
                if number is None and entry["nr"] in self._looked_at:
                    continue  # in another histogram, with its arguments
                thread = entry["common_pid"]
                scopes = (for_process.get(self._ProcessOf(thread, parents), {}), for_thread.get(thread, {}))
                arguments = tuple((index, entry[f"a{index}"]) for index in indices)
                calls.update((policy, entry.get("nr", number), arguments) for scope in scopes
                             for policy, installed in scope.items() if entry["last"] > installed)
        return {"processes": processes,
                "strangers": sorted({comm for process, comm in strangers.items() if process not in for_process}),
                "calls": [[policy, number, dict(arguments)] for policy, number, arguments in sorted(calls)]}

    @staticmethod
    def _ProcessOf(thread, parents):
        while thread in parents:
            thread = parents[thread]
        return thread

    def _PolicyOf(self, comm, length):
        """Told by the length of the filter; where that is the same, by the name that the process has."""
        names = [policy.name for policy in self._known.values() if policy.instructions == length]
        if len(names) > 1:
            kind = comm.partition("[")[0]
            names = [name for name in names if name == {"9p": "p9"}.get(kind, kind.replace("-", "_"))]
        return names[0] if names else None
