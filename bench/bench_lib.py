"""What the bench scripts share: guests of both sides, tables, nested KVM."""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile

SOURCE_DIR = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [os.path.join(SOURCE_DIR, "tools", "lib"), os.path.join(SOURCE_DIR, "tests", "e2e", "lib")]
sys.dont_write_bytecode = True
import host_kvm  # noqa: E402
import settings  # noqa: E402
from guest_paths import PathOf  # noqa: E402,F401
from vm import Vm, VmError  # noqa: E402,F401


def Arguments(usage, runs, configure=None):
    parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=runs, help=f"repetitions of each side (default {runs})")
    parser.add_argument("--only", choices=["ours", "peer"], help="measure one side")
    parser.add_argument("--binary", default=settings.binary)
    parser.add_argument("--kernel", default="6.12", choices=["6.1", "6.12"])
    parser.add_argument("--icount", action="store_true", help="outer machine counts instructions (nested KVM only)")
    parser.add_argument("--cpus", type=int, default=1,
                        help="processors of the outer machine (nested KVM only; default 1, see docs/nested-kvm.md)")
    if configure:
        configure(parser)
    args = parser.parse_args()
    settings.binary = os.path.abspath(args.binary)
    args.sides = [args.only] if args.only else ["ours", "peer"]
    if "ours" in args.sides and not os.access(settings.binary, os.X_OK):
        sys.exit(f"{settings.binary} is missing; build the release preset, or measure with --only peer")
    return args


def Prepare(args, mem=3072):
    """Guest material and a KVM; comes back inside nested KVM where the host's will not do."""
    if subprocess.run([os.path.join(SOURCE_DIR, "tools", "guest")]).returncode != 0:
        sys.exit(1)
    host_kvm.EnterOrContinue(["--mem", str(mem), "--cpus", str(args.cpus)] + (["--icount"] if args.icount else []))
    if host_kvm.IsNested():
        settings.time_scale = 60.0 if args.icount else 12.0
    settings.work_dir = tempfile.mkdtemp(prefix="bench-", dir="/dev/shm" if host_kvm.IsNested() else None)


class SideVm(Vm):
    """A VM of ours, or with `peer_command` one of somebody else's under the same handling."""

    def __init__(self, side, peer_command, **options):
        super().__init__(**options)
        self._side, self._peer_command = side, peer_command

    def Command(self):
        return self._peer_command if self._side == "peer" else super().Command()

    def WaitFor(self, pattern, *args, **kwargs):
        try:
            return super().WaitFor(pattern, *args, **kwargs)
        except VmError as error:
            raise VmError(f"{self._side}: {error}\n{self.console[-2000:]}\n{self.stderr[-2000:]}") from error


def Median(values):
    return statistics.median(values)


def Table(title, rows, better):
    """rows: (name, ours or None, peer or None, unit). `better` is "lower" or "higher"."""
    print(f"\n{title} ({better} is better)")
    print(f"{'':32}{'ours':>12}{'peer':>12}  {'unit':8}{'ours/peer':>10}")
    for name, ours, peer, unit in rows:
        cells = "".join(f"{'-' if value is None else format(value, '.4g'):>12}" for value in (ours, peer))
        ratio = f"{ours / peer:10.3f}" if ours is not None and peer else f"{'-':>10}"
        print(f"{name:32}{cells}  {unit:8}{ratio}", flush=True)
