"""Who runs which test class, and how it ended: in files, for machines share nothing else and may die."""
import os
import time

VARIABLE = "CROSVM_E2E_LEDGER"  # names the folder to a run inside a machine
OWNER = "CROSVM_E2E_OWNER"      # and what that machine is called


class Ledger:
    """One folder. `NAME` is a symbolic link, made by whoever runs that class and naming it; `NAME.ended` holds the counts
    of passed, failed and skipped cases. Safe for use by any number of threads and machines."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)

    def _Path(self, name):
        return os.path.join(self.folder, name)

    def Claim(self, name, owner=None):
        """True for exactly one caller."""
        try:
            os.symlink(owner or os.environ.get(OWNER, "here"), self._Path(name))
            return True
        except FileExistsError:
            return False

    def End(self, name, counts):
        with open(self._Path(name + ".new"), "w", encoding="ascii") as file:
            file.write(" ".join(str(count) for count in counts))
        os.rename(self._Path(name + ".new"), self._Path(name + ".ended"))

    def Ended(self):
        """{name: (passed, failed, skipped)}"""
        ended = {}
        for entry in os.listdir(self.folder):
            if entry.endswith(".ended"):
                with open(self._Path(entry), encoding="ascii") as file:
                    ended[entry.removesuffix(".ended")] = tuple(int(word) for word in file.read().split())
        return ended

    def Release(self, owner):
        """What `owner`, which has died, had begun and not ended may be claimed again. Gives the names."""
        ended = self.Ended()
        names = [entry for entry in os.listdir(self.folder)
                 if os.path.islink(self._Path(entry)) and os.readlink(self._Path(entry)) == owner and entry not in ended]
        for name in names:
            os.unlink(self._Path(name))
        return names

    def Totals(self):
        return Sum(self.Ended())


def Sum(ended):
    return [sum(counts[i] for counts in ended.values()) for i in range(3)]


def Add(some, more):
    return [a + b for a, b in zip(some, more)]


def Conclude(totals, started):
    """The last lines of a run; gives its exit status."""
    passed, failed, skipped = totals
    print(f"end-to-end tests took {time.monotonic() - started:.0f} s")
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 0 if passed and not failed else 1
