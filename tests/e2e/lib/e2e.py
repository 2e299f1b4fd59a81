"""Base class of the end-to-end tests, and what they are made with."""
import os
import subprocess
import sys
import tempfile
import unittest

import settings
from vm import Vm


class E2eTest(unittest.TestCase):
    """A class is the unit of scheduling: its tests run one after the other and may share one VM (ShareVm)."""

    kernel = "6.12"
    quick = False       # part of `run --quick`
    needs_crosvm = True  # False: also meaningful with the stand-in backend
    needs_root = False  # the host has to be changed for it

    @classmethod
    def setUpClass(cls):
        cls.vms = []
        if settings.backend != "crosvm" and cls.needs_crosvm:
            raise unittest.SkipTest("needs crosvm itself")
        if cls.needs_root and os.geteuid() != 0:
            raise unittest.SkipTest("needs root")
        cls.directory = tempfile.mkdtemp(prefix="test-", dir=settings.work_dir)
        cls.shared = None

    @classmethod
    def tearDownClass(cls):
        for vm in cls.vms:
            vm.Close()

    @classmethod
    def Vm(cls, **options):
        """A VM that is ended with the class at the latest."""
        options.setdefault("kernel", cls.kernel)
        vm = Vm(**options)
        cls.vms.append(vm)
        return vm

    @classmethod
    def Path(cls, name):
        return os.path.join(cls.directory, name)

    def Shared(self):
        """The VM that the class booted in its first test; a test that comes after a failed boot says so."""
        if self.shared is None:
            self.fail("the VM of this class did not boot")
        return self.shared

    def RunCrosvm(self, *words, status, timeout=10):
        """Runs crosvm to its end; gives standard output and error together."""
        done = subprocess.run([settings.binary, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, cwd=self.directory,
                              timeout=timeout * settings.time_scale)
        self.assertEqual(done.returncode, status, f"crosvm {' '.join(words)}: {done.stdout}")
        return done.stdout

    def CheckGolden(self, name, text):
        """Compares with tests/e2e/golden/NAME; `run --update-goldens` writes it anew."""
        path = os.path.join(settings.golden_dir, name)
        if settings.update_goldens:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            return
        if not os.path.exists(path):
            self.fail(f"{path} is missing; look at this and, if right, run with --update-goldens:\n{text}")
        with open(path, encoding="utf-8") as file:
            self.maxDiff = None
            self.assertMultiLineEqual(file.read(), text)


def EachKernel(cls):
    """Class decorator: one class for each guest kernel instead of the class itself."""
    module = sys.modules[cls.__module__]
    for kernel in ("6.1", "6.12"):
        name = f"{cls.__name__}_{kernel.replace('.', '_')}"
        setattr(module, name, type(name, (cls,), {"kernel": kernel, "__module__": cls.__module__,
                                                  "quick": cls.quick and kernel == "6.12"}))
    return None
