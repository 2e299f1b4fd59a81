"""The rules that a build's system call filters are made of, the reasons that stand beside them, and which calls use which
rule. What the filters hold comes from the build (crosvm_policy(), NAME.rules); the reasons are read from the sources:

    # unused in tests: REASON
    # (more of the reason)
    call: 1

A reason holds for the rules below it, up to an empty line or the next remark. `# not always used in tests: REASON` is for
calls that depend on the moment. See docs/jail.md.
"""
import functools
import glob
import os
import platform
import re

MARK = "# unused in tests:"
LENIENT_MARK = "# not always used in tests:"
OPERATORS = {
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "&": lambda a, b: a & b != 0, "in": lambda a, b: a & ~b == 0,
}
COMPARISON = re.compile(r"arg(\d) (\S+) (0x[0-9a-f]+)")


def Short(path):
    """From src/ on."""
    return "src/" + path.rpartition("/src/")[2] if "/src/" in path else path


@functools.cache
def ReadSource(path):
    """{line: (text of the rule, mark or None, reason or None)} of a policy file; a continued rule is at its first line."""
    rules, mark, reason, begun, joined, start = {}, None, None, False, "", 0
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not joined:
            if not line:
                reason = None
                continue
            if line.startswith("#"):
                mark = next((known for known in (MARK, LENIENT_MARK) if line.startswith(known)), mark)
                if mark and line.startswith(mark):
                    reason, begun = line[len(mark):].strip(), False
                elif reason is not None and not begun:
                    reason += " " + line[1:].strip()
                else:
                    reason = None
                continue
            start = number
        if line.endswith("\\"):
            joined += line[:-1]
            continue
        text, joined = " ".join((joined + line).partition("#")[0].split()), ""
        if not text.startswith("@"):
            rules[start] = (text, mark if reason is not None else None, reason)
            begun = True
    return rules


class Alternative:
    """What one rule, or one side of a `||` in it, lets pass; or a rule that lets nothing pass (`return ERROR`)."""

    def __init__(self, where, name, number, condition, index):
        self.path, _, line = where.rpartition(":")
        self.line = int(line)
        self.name = name
        self.number = number
        self.index = index
        self.refuses = condition == "never"
        self.comparisons = [(int(argument), OPERATORS[operator], int(value, 16))
                            for argument, operator, value in COMPARISON.findall(condition)]
        text, self.mark, self.reason = ReadSource(self.path).get(self.line, ("", None, None))
        if text.partition(":")[0].strip() != name:
            raise SystemExit(f"tests/e2e/run: {where} is not `{name}:` any more; build again before --policy-usage")
        sides = text.partition(":")[2].partition(";")[0].split("||")
        self.text = f"{name}: " + (sides[index].strip() if index < len(sides) else condition)
        self.key = (self.path, self.line, index)

    def Matches(self, arguments):
        """`arguments`: {index: value} of those that any rule of the call looks at."""
        return all(compare(arguments[index], value) for index, compare, value in self.comparisons)

    def __str__(self):
        return f"{Short(self.path)}:{self.line}: {self.text}"


class Policy:
    def __init__(self, path):
        self.name = os.path.basename(path).removesuffix(".rules")
        self.instructions = 0
        self.source = None
        self.alternatives = []
        self.refused = set()  # calls that fail with an error when nothing lets them pass; others are denied
        with open(path, encoding="utf-8") as file:
            for line in file:
                arch, kind, *fields = line.rstrip("\n").split("\t")
                if arch != platform.machine():
                    continue
                if kind == "code":
                    self.instructions, self.source = int(fields[0]), fields[1]
                else:
                    where, name, number, conditions, otherwise = fields
                    if otherwise == "refuse":
                        self.refused.add(int(number))
                    self.alternatives += [Alternative(where, name, int(number), condition, index)
                                          for index, condition in enumerate(conditions.split(" || "))]
        self._by_number = {}
        for alternative in self.alternatives:
            self._by_number.setdefault(alternative.number, []).append(alternative)

    def Find(self, number, arguments):
        """Which alternative answers for a call: the first that lets it pass (what is included comes before what includes it),
        else a rule that is there to refuse it, or None."""
        known = self._by_number.get(number, [])
        passing = [one for one in known if not one.refuses and one.Matches(arguments)]
        return (passing or [one for one in known if one.refuses] or [None])[0]


def Load(binary):
    """{name: Policy} of the build that `binary` lies in."""
    folder = os.path.join(os.path.dirname(binary), "generated", "policies")
    found = {policy.name: policy for policy in map(Policy, sorted(glob.glob(os.path.join(folder, "*.rules"))))}
    if not found:
        raise SystemExit(f"tests/e2e/run: --policy-usage needs the lists of rules that a build leaves in {folder}")
    return found


def ArgumentsLookedAt(policies):
    """{call's number: (argument, …)}: those that some rule of the call looks at."""
    looked_at = {}
    for policy in policies.values():
        for one in policy.alternatives:
            looked_at.setdefault(one.number, set()).update(index for index, _, _ in one.comparisons)
    return {number: tuple(sorted(indices)) for number, indices in looked_at.items() if indices}
