"""The jail around a running VM: what `crosvm ps` shows of it, and what happens when a device is beyond help."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import images
import settings
from e2e import E2eTest
from guest_paths import SOURCE_DIR

DEVICE_NAMESPACES = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"]
LAYERS = {"user", "pid", "mount", "net", "ipc", "uts", "cgroup", "root", "id", "capabilities", "no_new_privs",
          "rlimits", "seccomp"}


def Processes(vm):
    return {process["name"]: process for process in json.loads(vm.Control("ps", "--json"))["processes"]}


def WaitForState(test, vm, name, state):
    deadline = time.monotonic() + 20 * settings.time_scale
    while time.monotonic() < deadline:
        process = Processes(vm)[name]
        if process["state"] == state:
            return process
        time.sleep(0.05)
    return test.fail(f"{name} is not {state}: {process}")


class Events:
    """`crosvm events` of a VM, read by a thread."""

    def __init__(self, vm):
        self._process = subprocess.Popen([settings.binary, "events", vm.socket], stdout=subprocess.PIPE, text=True)
        self._lines = []
        self._changed = threading.Condition()
        threading.Thread(target=self._Read, daemon=True).start()

    def _Read(self):
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(json.loads(line))
                self._changed.notify_all()

    def WaitFor(self, kind, device):
        """The first event of this kind about this device."""
        deadline = time.monotonic() + 20 * settings.time_scale
        with self._changed:
            while True:
                for event in self._lines:
                    if event["kind"] == kind and event.get("device") == device:
                        return event
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"no {kind} of {device} in {self._lines}")
                self._changed.wait(left)

    def End(self):
        """The exit status of the command, which ends with its VM."""
        status = self._process.wait(20 * settings.time_scale)
        self._process.stdout.close()
        return status


class Confined(E2eTest):
    """One VM, looked at from outside."""

    ordered = True

    def test_1_every_process_is_confined(self):
        images.Sparse(self.Path("disk"), 8 * images.MIB)
        vm = self.Vm(socket=True, disks=[images.Disk(self.Path("disk"), writable=True)])
        vm.Boot(20)
        type(self).shared = vm
        processes = Processes(vm)
        self.assertEqual(set(processes), {"vmm", "spawner", "block[0]", "rng[0]"})
        for name in ("block[0]", "rng[0]"):
            device = processes[name]
            self.assertEqual(device["role"], "device")
            self.assertEqual(device["usage"]["namespaces"], DEVICE_NAMESPACES)
            self.assertLessEqual(LAYERS, set(device["layers"]))
            self.assertGreater(device["allowed_calls"], 10)
            self.assertLess(device["usage"]["descriptors"], 64)
            if os.geteuid() == 0:
                self.assertEqual(os.listdir(f"/proc/{device['pid']}/root/"), [])
            self.assertEqual(self.Capabilities(device["pid"]), {"0000000000000000"})
        vmm = processes["vmm"]
        self.assertEqual(vmm["pid"], vm.pid)
        landlock = {"landlock"} & set(processes["block[0]"]["layers"])  # where the kernel has it
        self.assertEqual(set(vmm["layers"]), {"capabilities", "no_new_privs", "seccomp"} | landlock)
        for thread in os.listdir(f"/proc/{vm.pid}/task"):
            # The bounding set is root's to empty; an ordinary user's is of no use under no_new_privs.
            sets = ("CapInh", "CapPrm", "CapEff", "CapAmb") + (("CapBnd",) if os.geteuid() == 0 else ())
            self.assertEqual(self.Status(vm.pid, thread, *sets), {"0000000000000000"}, thread)
            self.assertEqual(self.Status(vm.pid, thread, "NoNewPrivs"), {"1"})
            self.assertEqual(self.Status(vm.pid, thread, "Seccomp"), {"2"})
        names = {self.Status(vm.pid, thread, "Name").pop(): thread for thread in os.listdir(f"/proc/{vm.pid}/task")}
        filters = {name: int(self.Status(vm.pid, thread, "Seccomp_filters").pop()) for name, thread in names.items()}
        self.assertEqual(filters["vcpu0"], filters["crosvm"] + 1)

    @staticmethod
    def Status(pid, thread, *keys):
        with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as file:
            return {line.split()[1] for line in file if line.split(":")[0] in keys}

    def Capabilities(self, pid, thread=None):
        return self.Status(pid, thread or pid, "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")

    def test_2_table(self):
        table = self.Shared().Control("ps").splitlines()
        self.assertEqual(table[0], "VM running, 1 vCPU")
        self.assertEqual(table[1].split(), "NAME ROLE PID STATE RESTARTS PSS USS THREADS FDS NS CALLS JAIL".split())
        self.assertEqual([line.split()[0] for line in table[2:]], ["vmm", "spawner", "block[0]", "rng[0]"])
        self.assertIn(" user,pid,mount,net,ipc,uts,cgroup,root,id,capabilities,no_new_privs,rlimits", table[4])

    def test_3_powers_off(self):
        self.Shared().PowerOff()


class LackOfMemory(E2eTest):
    """A device in a cgroup of its own, at that cgroup's limit."""

    needs_root = True

    def test_lack_of_memory_is_reported_as_such(self):
        # What is written to a file in memory counts as the writer's.
        image = tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="e2e-disk-")
        self.addCleanup(image.close)
        images.Sparse(image.name, 8 * images.MIB)
        vm = self.Vm(socket=True, disks=[images.Disk(image.name, writable=True)])
        vm.Boot(20)
        group = "/sys/fs/cgroup/crosvm-e2e-memory"
        if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            subprocess.run(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=True)
        with open("/sys/fs/cgroup/cgroup.subtree_control", "w", encoding="ascii") as file:
            file.write("+memory")
        os.makedirs(group, exist_ok=True)
        events = Events(vm)
        try:
            before = Processes(vm)["block[0]"]
            for name, value in (("memory.max", "4096"), ("cgroup.procs", str(before["pid"]))):
                with open(f"{group}/{name}", "w", encoding="ascii") as file:
                    file.write(value)
            vm.Check("dd if=/dev/zero of=/dev/vda bs=64k count=16 oflag=direct", 60)
            died = events.WaitFor("device-died", "block[0]")
            self.assertIn("killed for want of memory (the memory limit of cgroup /crosvm-e2e-memory)", died["text"])
            events.WaitFor("device-restarted", "block[0]")
        finally:
            with open(f"{group}/cgroup.procs", encoding="ascii") as file:
                self.assertEqual(file.read(), "")
            os.rmdir(group)
        self.assertEqual(Processes(vm)["block[0]"]["restarts"], 1)
        vm.PowerOff()


class OnCrashReset(E2eTest):
    """--on-device-crash=reset: the guest's driver is told, and the VM goes on."""

    def test_needs_reset(self):
        images.Sparse(self.Path("disk"), 8 * images.MIB)
        vm = self.Vm(socket=True, options=["--on-device-crash=reset"],
                     disks=[images.Disk(self.Path("disk"), writable=True)])
        vm.Boot(20)
        events = Events(vm)
        device = "/sys/bus/virtio/drivers/virtio_rng/virtio*/status"
        self.assertEqual(int(vm.Check(f"cat {device}").split()[-1], 16) & 0x40, 0)
        os.kill(Processes(vm)["rng[0]"]["pid"], signal.SIGKILL)
        self.assertIn("killed by SIGKILL", events.WaitFor("device-died", "rng[0]")["text"])
        self.assertIn("--on-device-crash=reset", events.WaitFor("device-failed", "rng[0]")["text"])
        WaitForState(self, vm, "rng[0]", "failed")
        # VIRTIO_CONFIG_S_NEEDS_RESET
        self.assertEqual(int(vm.Check(f"cat {device}").split()[-1], 16) & 0x40, 0x40)
        vm.Check("dd if=/dev/vda of=/dev/null bs=1M count=4 iflag=direct", 60)
        # One that only hangs is ended: it has the guest's memory.
        hung = Processes(vm)["block[0]"]["pid"]
        os.kill(hung, signal.SIGSTOP)
        WaitForState(self, vm, "block[0]", "failed")
        self.assertFalse(os.path.exists(f"/proc/{hung}"))
        vm.PowerOff()
        self.assertEqual(events.End(), 0)


class PolicyDirectory(E2eTest):
    """--seccomp-policy-dir with copies of the project's own policies, as docs/jail.md says."""

    def test_copies_do(self):
        folder = self.Path("policies")
        os.mkdir(folder)
        source = os.path.join(SOURCE_DIR, "src")
        for name in os.listdir(os.path.join(source, "jail", "policies")):
            shutil.copy(os.path.join(source, "jail", "policies", name), folder)
        for name, path in {"block": "devices/block/block", "rng": "devices/rng/rng", "vm_main": "vm/main",
                           "vm_main.x86_64": "vm/main.x86_64", "vcpu": "vm/vcpu", "vm_vcpu": "vm/vcpu"}.items():
            shutil.copy(os.path.join(source, path + ".policy"), os.path.join(folder, name + ".policy"))
        images.Sparse(self.Path("disk"), 8 * images.MIB)
        vm = self.Vm(socket=True, options=["--seccomp-policy-dir", folder],
                     disks=[images.Disk(self.Path("disk"), writable=True)])
        vm.Boot(20)
        vm.Check("dd if=/dev/urandom of=/dev/vda bs=64k count=16 oflag=direct && sync", 60)
        vm.Check("dd if=/dev/hwrng of=/dev/null bs=64 count=1", 30)
        self.assertEqual({process["restarts"] for process in Processes(vm).values()}, {0})
        vm.PowerOff()


class OnCrashStop(E2eTest):
    """--on-device-crash=stop: the VM ends, and says why."""

    def test_vm_ends(self):
        vm = self.Vm(socket=True, options=["--on-device-crash=stop"])
        vm.Boot(20)
        os.kill(Processes(vm)["rng[0]"]["pid"], signal.SIGKILL)
        vm.ExpectExit(33, 20)
        self.assertIn("device rng[0] failed: the process", vm.stderr)
