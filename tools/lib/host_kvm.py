"""What kind of KVM this host has: the rules of kvm.sh for Python (tests/e2e, bench)."""
import os
import re
import sys

from guest_paths import SOURCE_DIR


def Kind():
    """"hardware", or the reason why the host's KVM does not run stock kernels."""
    if not os.path.exists("/dev/kvm"):
        return "no /dev/kvm"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm may not be opened by this user (add the user to group kvm)"
    if os.path.isdir("/sys/module/kvm_pvm"):
        return "/dev/kvm is software (kvm_pvm), which does not boot stock kernels"
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        if not re.search(r"^flags.*\b(vmx|svm)\b", file.read(), re.MULTILINE):
            return "the processor shows neither vmx nor svm"
    return "hardware"


def IsNested():
    return "CROSVM_NESTED_KVM" in os.environ


MACHINE_DIED = 125  # the status of tools/nested-kvm that says so


def Ready():
    """Whether this process has a KVM that boots stock kernels (ends the program if not even nested). Says which, or that a
    nested one is needed."""
    kind = Kind()
    if kind == "hardware":
        print("KVM: " + ("the nested one of tools/nested-kvm" if IsNested() else "this host's hardware"), flush=True)
        return True
    if IsNested():
        print(f"KVM: {kind}, even inside tools/nested-kvm", file=sys.stderr)
        sys.exit(1)
    print(f"KVM: {kind}; going through tools/nested-kvm (a QEMU that emulates SVM in software: slow, but real)",
          flush=True)
    return False


def NestedCommand(nested_options=()):
    """The command that runs this program again, inside tools/nested-kvm."""
    return [os.path.join(SOURCE_DIR, "tools", "nested-kvm"), *nested_options, "--", sys.executable, *sys.argv]


def EnterOrContinue(nested_options=()):
    """Returns when this process has a KVM that boots stock kernels; otherwise starts the program again in one."""
    if not Ready():
        command = NestedCommand(nested_options)
        os.execv(command[0], command)
