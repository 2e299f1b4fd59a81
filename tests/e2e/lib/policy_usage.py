"""The verdict of `tests/e2e/run --policy-usage`: no rule of a policy is unused without a reason, and no reason is left where
a rule is used.

A rule is that of the processes whose policy its file is: one in src/vm/vcpu.policy has to be used by vCPU threads, and
that main.policy includes it does not count. Rules of files that are nobody's policy (src/jail/policies/) have to be
used by some process. Where a call is allowed twice, the rule that comes first is the one used.
"""
import json
import os
import textwrap

import policies

CASE = "policies.every_rule_is_used_or_says_why_not"
SUFFIX = ".calls"  # of what a class recorded, in the ledger's folder


def Write(folder, name, taken):
    path = os.path.join(folder, name + SUFFIX)
    with open(path + ".new", "w", encoding="ascii") as file:
        json.dump(taken, file)
    os.rename(path + ".new", path)


class Usage:
    def __init__(self, known, file):
        """`file` keeps what was recorded, so that it can be judged again when reasons were written."""
        self.known = known
        self._file = file
        self._sources = {policy.source: name for name, policy in known.items()}
        self._processes = {}  # policy: count
        self._strangers = set()
        self._calls = set()  # (policy, number, ((argument, value), …))
        self._users = {}     # Alternative.key: {policy, …}
        self._denied = set()

    def Read(self, folder):
        for name in sorted(os.listdir(folder)):
            if name.endswith(SUFFIX):
                self._Add(os.path.join(folder, name))

    def ReadAgain(self):
        self._Add(self._file)

    def _Add(self, path):
        with open(path, encoding="ascii") as file:
            taken = json.load(file)
        for name, count in taken["processes"].items():
            self._processes[name] = self._processes.get(name, 0) + count
        self._strangers.update(taken["strangers"])
        self._calls.update((name, number, tuple((int(index), value) for index, value in arguments.items()))
                           for name, number, arguments in taken["calls"])

    def _Keep(self):
        calls = [[name, number, dict(arguments)] for name, number, arguments in sorted(self._calls)]
        with open(self._file, "w", encoding="ascii") as file:
            json.dump({"processes": self._processes, "strangers": sorted(self._strangers), "calls": calls}, file)

    def _Attribute(self):
        for name, number, arguments in self._calls:
            found = self.known[name].Find(number, dict(arguments))
            if found is not None:
                self._users.setdefault(found.key, set()).add(name)
            elif number not in self.known[name].refused:
                self._denied.add((name, number, arguments))

    def _Alternatives(self):
        """Each once, in the order of files and lines."""
        every = {one.key: one for policy in self.known.values() for one in policy.alternatives}
        return [every[key] for key in sorted(every)]

    def _UsersOf(self, one):
        """(those whose rule it is, others)"""
        users = self._users.get(one.key, set())
        owner = self._sources.get(policies.Short(one.path))
        return (users & {owner}, users - {owner}) if owner else (users, set())

    def Tables(self):
        """Files with the numbers of their rules, then policies with what of their filter their processes used."""
        files = {}
        for one in self._Alternatives():
            row = files.setdefault(policies.Short(one.path), [0, 0, 0, 0])
            row[0] += 1
            row[1 if self._UsersOf(one)[0] else 2 if one.reason else 3] += 1
        lines = [f"    {'file':38} {'rules':>6} {'used':>6} {'kept':>6} {'unused':>6}"]
        lines += [f"    {name:38} " + " ".join(f"{count:6}" for count in row) for name, row in files.items()]
        lines += ["", f"    {'policy':10} {'filters':>8} {'rules':>6} {'used':>6}"]
        for name, policy in self.known.items():
            used = sum(name in self._users.get(one.key, ()) for one in policy.alternatives)
            lines.append(f"    {name:10} {self._processes.get(name, 0):8} {len(policy.alternatives):6} {used:6}")
        return "\n".join(lines)

    @staticmethod
    def _List(head, alternatives):
        """Names of calls, with arguments where these make the difference."""
        words = sorted({one.text.replace(": ", "(", 1) + ")" if one.comparisons else one.name for one in alternatives})
        return textwrap.fill(f"{head}: {', '.join(words)}", 130, initial_indent="    ", subsequent_indent="        ",
                             break_long_words=False)

    def Kept(self):
        """The rules that nobody used, by file and reason."""
        kept = {}
        for one in self._Alternatives():
            if one.reason is not None and not self._UsersOf(one)[0]:
                kept.setdefault((policies.Short(one.path), one.reason), []).append(one)
        return "\n".join(self._List(f"{name}, unused: {reason}", ones) for (name, reason), ones in kept.items())

    def Spare(self):
        """By policy, which rules of included files its own processes did not use, though others did."""
        lines = []
        for name, policy in self.known.items():
            spare = [one for one in policy.alternatives
                     if self._users.get(one.key) and name not in self._users[one.key] and not one.refuses]
            if spare:
                lines.append(self._List(f"{name} did not use of what others do", spare))
        return "\n".join(lines)

    def Problems(self, whole_suite):
        problems = [f"a process named {name} has a filter that is in no list of rules: not of this build?"
                    for name in sorted(self._strangers)]
        if not self._processes:
            problems.append("no process with a filter was seen")
        problems += [f"{name}: system call {number}{dict(arguments) or ''} was made and denied: a rule is missing"
                     for name, number, arguments in sorted(self._denied)]
        for one in self._Alternatives():
            users, others = self._UsersOf(one)
            if users and one.mark == policies.MARK:
                problems.append(f"{one}: marked as unused, but used by {', '.join(sorted(users))}")
            elif one.reason == "":
                problems.append(f"{one}: the reason is missing")
            elif not users and one.reason is None and whole_suite:
                hint = f" (used by {', '.join(sorted(others))} only)" if others else ""
                problems.append(f"{one}: unused{hint}, and no `{policies.MARK} REASON` above it")
        return problems

    def Judge(self, whole_suite):
        """Prints; gives the counts of passed, failed and skipped cases."""
        self._Keep()
        self._Attribute()
        for text in (self.Tables(), self.Kept(), self.Spare()):
            print(text + "\n")
        problems = self.Problems(whole_suite)
        print(f"{'FAIL' if problems else 'ok':5} {CASE}" +
              ("" if whole_suite else " (a part of the suite: rules may be unused)"))
        for problem in problems:
            print("    " + problem)
        return (0, 1, 0) if problems else (1, 0, 0)
