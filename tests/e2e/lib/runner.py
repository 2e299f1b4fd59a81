"""Finds, runs and reports the end-to-end tests. A test class is the unit that runs on its own thread."""
import argparse
import concurrent.futures
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest

import call_recorder
import host_kvm
import ledgers
import machines
import policies
import policy_usage
import settings
from guest_paths import SOURCE_DIR

NESTED_TIME_SCALE = 12.0

printing = threading.RLock()


class Result(unittest.TestResult):
    """Prints each result as it comes. One for each class: unittest keeps the state of class fixtures in it."""

    def __init__(self):
        super().__init__()
        self._started = {}
        self.counts = [0, 0, 0]

    @staticmethod
    def Name(test):
        if isinstance(test, unittest.suite._ErrorHolder):
            return test.description
        return f"{type(test).__module__}.{type(test).__name__}.{test._testMethodName}"

    def startTest(self, test):
        self._started[test] = time.monotonic()

    def stopTest(self, test):
        pass

    def _Line(self, word, test, more=""):
        start = self._started.get(test)
        seconds = f" ({time.monotonic() - start:.1f} s)" if start is not None else ""
        print(f"{word:5} {self.Name(test)}{seconds}{more}", flush=True)

    def addSuccess(self, test):
        with printing:
            self.counts[0] += 1
            self._Line("ok", test)

    def addSkip(self, test, reason):
        with printing:
            self.counts[2] += 1
            self._Line("SKIP", test, f": {reason}")

    def addFailure(self, test, error):
        with printing:
            self.counts[1] += 1
            self._Line("FAIL", test)
            print(self._Where(error), flush=True)
            for vm in getattr(test, "vms", [])[-2:]:
                print("\n".join("    " + line for line in vm.Report().splitlines()), flush=True)

    @staticmethod
    def _Where(error):
        """Message, and the lines of ours that led there."""
        kind, value, trace = error
        frames = [f for f in traceback.extract_tb(trace) if os.sep + "e2e" + os.sep in f.filename]
        text = "".join(traceback.format_exception_only(kind, value))
        text += "".join(f"{f.filename}:{f.lineno}: {f.line}\n" for f in frames)
        return "\n".join("    " + line for line in text.splitlines())

    addError = addFailure

    def addExpectedFailure(self, test, error):
        self.addSkip(test, "expected to fail")

    def addUnexpectedSuccess(self, test):
        self.addFailure(test, (AssertionError, AssertionError("passed though expected to fail"), None))

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.addFailure(test, error)


def Flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from Flatten(item)
        else:
            yield item


def Collect(folder, pattern, quick, kernels):
    """[(class, [tests])] in file order."""
    loader = unittest.TestLoader()
    classes = {}
    names = sorted(name for name in os.listdir(folder) if re.fullmatch(r"test_\w+\.py", name))
    sys.path.insert(0, folder)
    for name in names:
        for test in Flatten(loader.loadTestsFromName(name[:-3])):
            if isinstance(test, unittest.loader._FailedTest):
                raise SystemExit(f"tests/e2e/{name}: {test._exception}")
            if quick and not getattr(test, "quick", False):
                continue
            # 6.12-full is the same kernel with all its drivers.
            if getattr(test, "kernel", "").removesuffix("-full") not in kernels:
                continue
            classes.setdefault(type(test), []).append(test)
    if pattern:
        # Later tests of a class may build on earlier ones, so a match selects its class up to the last match.
        chosen = {}
        for cls, tests in classes.items():
            hits = [i for i, test in enumerate(tests) if re.search(pattern, Result.Name(test))]
            if hits:
                chosen[cls] = tests[:hits[-1] + 1] if getattr(cls, "ordered", False) else [tests[i] for i in hits]
        classes = chosen
    return list(classes.items())


def RunClasses(classes, jobs, ledger, recorder=None):
    def RunClass(name, tests):
        if not ledger.Claim(name):
            return  # another machine's
        result = Result()
        unittest.TestSuite(tests).run(result)
        if recorder:
            policy_usage.Write(ledger.folder, name, recorder.Take())
        ledger.End(name, result.counts)

    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        for future in [pool.submit(RunClass, f"{cls.__module__}.{cls.__name__}", tests) for cls, tests in classes]:
            future.result()


def BecomeOrdinaryUser():
    """What a user has who was added to the group of /dev/kvm."""
    user = 1000
    # While root's own Python may still be read, if that is what runs this.
    for module in ("concurrent.futures.thread", "difflib", "pprint", "termios"):
        importlib.import_module(module)
    if host_kvm.IsNested():
        os.chown("/dev/kvm", 0, 36)
        os.chmod("/dev/kvm", 0o660)
    group = os.stat("/dev/kvm").st_gid
    os.setgroups([group])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    os.environ.update(HOME="/nonexistent", USER="user")


def Main(folder, usage):
    parser = argparse.ArgumentParser(prog="tests/e2e/run", description=usage,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", dest="pattern", metavar="PATTERN", help="only tests whose name matches this regex")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)),
                        help="test classes at a time, where KVM is nested: machines (default: one for each processor)")
    parser.add_argument("--binary", default=settings.binary, help="crosvm to test (default build/release/crosvm)")
    parser.add_argument("--quick", action="store_true", help="the few tests that show the main road is open")
    parser.add_argument("--kernel", choices=["6.1", "6.12"], action="append", help="only this guest kernel")
    parser.add_argument("--disable-sandbox", action="store_true", help="run VMs with --disable-sandbox")
    parser.add_argument("--unprivileged", action="store_true",
                        help="run the tests and their VMs as an ordinary user in /dev/kvm's group")
    parser.add_argument("--update-goldens", action="store_true", help="write golden files anew")
    parser.add_argument("--backend", choices=["crosvm", "qemu"], default="crosvm",
                        help="qemu: let QEMU stand in, to check guest material and harness")
    parser.add_argument("--policy-usage", action="store_true",
                        help="also: every rule of the system call policies is used, or says why not")
    parser.add_argument("--policy-usage-again", action="store_true",
                        help="only judge what the last --policy-usage recorded, with the rules and reasons of now")
    args = parser.parse_args()

    settings.kernels = args.kernel or settings.kernels
    classes = Collect(folder, args.pattern, args.quick, settings.kernels)
    if args.list:
        for _, tests in classes:
            for test in tests:
                print(Result.Name(test))
        return 0
    settings.binary = os.path.abspath(args.binary)
    settings.backend = args.backend
    settings.sandbox = not args.disable_sandbox
    settings.unprivileged = args.unprivileged
    settings.update_goldens = args.update_goldens
    if args.policy_usage and (args.unprivileged or args.disable_sandbox or args.backend != "crosvm"):
        parser.error("--policy-usage goes with root, the sandbox and crosvm")
    usage = None
    if args.policy_usage or args.policy_usage_again:
        usage = policy_usage.Usage(policies.Load(settings.binary),
                                   os.path.join(os.path.dirname(settings.binary), "policy-usage.json"))
    whole_suite = not (args.pattern or args.quick or args.kernel)
    if args.policy_usage_again:
        usage.ReadAgain()
        return ledgers.Conclude(usage.Judge(whole_suite), time.monotonic())
    if args.backend == "crosvm" and not os.access(settings.binary, os.X_OK):
        print(f"tests/e2e/run: {settings.binary} is missing; build it: cmake --preset release && "
              "cmake --build --preset release", file=sys.stderr)
        return 1
    guest = os.path.join(SOURCE_DIR, "tools", "guest")
    full = {cls.kernel for cls, _ in classes if cls.kernel.endswith("-full")}
    if subprocess.run([guest]).returncode != 0:
        return 1
    if full and subprocess.run([guest, "initramfs", *sorted(full)]).returncode != 0:
        return 1
    if not host_kvm.Ready():
        return machines.Run(args.jobs, usage, whole_suite)
    if host_kvm.IsNested():
        settings.time_scale = NESTED_TIME_SCALE
        args.jobs = 1  # the others are machines of their own
    if usage:
        args.jobs = 1  # the kernel counts for the whole machine
    ledger_folder = os.environ.get(ledgers.VARIABLE)
    if args.unprivileged and os.geteuid() == 0:
        BecomeOrdinaryUser()
    # Images live in memory: the tests are about the VM, not the host's disk.
    settings.work_dir = tempfile.mkdtemp(prefix="e2e-", dir="/dev/shm" if host_kvm.IsNested() else None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    started = time.monotonic()
    ledger = ledgers.Ledger(ledger_folder or os.path.join(settings.work_dir, "ledger"))
    try:
        RunClasses(classes, args.jobs, ledger, call_recorder.Recorder(usage.known) if usage else None)
        totals = ledger.Totals()
        if usage and not ledger_folder:
            usage.Read(ledger.folder)
            totals = ledgers.Add(totals, usage.Judge(whole_suite))
    finally:
        shutil.rmtree(settings.work_dir, ignore_errors=True)
    return 0 if ledger_folder else ledgers.Conclude(totals, started)
