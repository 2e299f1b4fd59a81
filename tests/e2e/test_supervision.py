"""Devices that die or hang under load: the guest sees a delay, and nothing else."""
import json
import os
import random
import signal
import time

import images
import settings
from e2e import E2eTest

FIO = ("fio --name=verify --filename=/dev/vdb --rw=randrw --rwmixread=50 --bs=4k-32k --size=24M --io_size=96M "
       "--direct=1 --ioengine=libaio --iodepth=32 --numjobs=1 --verify=crc32c --do_verify=1 --verify_fatal=1 "
       "--verify_backlog=256 --randseed=5 --output=/tmp/fio.log")


class Supervision(E2eTest):
    """One VM: its disk's process is killed and stopped while fio verifies what it wrote."""

    ordered = True

    KILLS = 12

    def Processes(self):
        return {process["name"]: process for process in json.loads(self.Shared().Control("ps", "--json"))["processes"]}

    def Killed(self, name, number, before):
        """Signals the device's process and waits until another one runs in its place."""
        os.kill(before["pid"], number)
        deadline = time.monotonic() + 20 * settings.time_scale
        while time.monotonic() < deadline:
            now = self.Processes()[name]
            if now["state"] == "running" and now["pid"] != before["pid"]:
                return now
            time.sleep(0.05)
        self.fail(f"{name} was not started again: {self.Processes()}")

    def test_1_boots(self):
        images.Sparse(self.Path("target"), 32 * images.MIB)
        images.CopyRoot(self.Path("root"))
        vm = self.Vm(cpus=2, socket=True, options=["-r", self.Path("root"), "--device-restarts", "1000"],
                     disks=[images.Disk(self.Path("target"), writable=True, suboptions=("queues=2",))])
        vm.Boot(20)
        type(self).shared = vm
        names = set(self.Processes())
        self.assertEqual(names, {"vmm", "spawner", "block[0]", "block[1]", "rng[0]"})

    def test_2_killed_under_fio(self):
        vm = self.Shared()
        chance = random.Random(1)
        vm.Check(f"({FIO}; echo $? > /tmp/fio.status) > /dev/null 2>&1 &")
        disk = self.Processes()["block[1]"]
        for _ in range(self.KILLS):
            time.sleep(chance.uniform(0.0, 0.6))
            disk = self.Killed("block[1]", signal.SIGKILL, disk)
        vm.Check("while [ ! -s /tmp/fio.status ]; do sleep 0.2; done", 180)
        self.assertEqual(vm.Check("cat /tmp/fio.status").strip(), "0", vm.Check("cat /tmp/fio.log"))
        self.assertEqual(self.Processes()["block[1]"]["restarts"], self.KILLS)
        self.assertNotIn("I/O error", vm.Check("dmesg"))

    def test_3_a_stopped_device_is_found_and_replaced(self):
        self.Killed("block[1]", signal.SIGSTOP, self.Processes()["block[1]"])
        self.Shared().Check("dd if=/dev/vdb of=/dev/null bs=1M count=8 iflag=direct", 60)

    def test_4_entropy_comes_back(self):
        vm = self.Shared()
        vm.Check("(dd if=/dev/hwrng of=/tmp/random bs=512 count=400; wc -c < /tmp/random > /tmp/random.size) "
                 "> /dev/null 2>&1 &")
        rng = self.Processes()["rng[0]"]
        for _ in range(3):
            time.sleep(0.2)
            rng = self.Killed("rng[0]", signal.SIGKILL, rng)
        vm.Check("while [ ! -s /tmp/random.size ]; do sleep 0.2; done", 60)
        self.assertEqual(vm.Check("cat /tmp/random.size").strip(), str(512 * 400))

    def test_5_powers_off(self):
        self.Shared().PowerOff()
        for word in ("block[1]", "SIGKILL"):
            self.assertIn(word, self.Shared().stderr)


class RestartLimit(E2eTest):
    """Too many deaths: the device is given up, the VM lives."""

    def test_third_death_ends_the_restarts(self):
        vm = self.Vm(socket=True, options=["--device-restarts", "1"])
        vm.Boot(20)
        for restarts in range(2):
            rng = [p for p in json.loads(vm.Control("ps", "--json"))["processes"] if p["name"] == "rng[0]"][0]
            os.kill(rng["pid"], signal.SIGKILL)
            wanted = "running" if restarts == 0 else "failed"
            deadline = time.monotonic() + 20 * settings.time_scale
            while time.monotonic() < deadline:
                now = [p for p in json.loads(vm.Control("ps", "--json"))["processes"] if p["name"] == "rng[0]"][0]
                if now["state"] == wanted and now["pid"] != rng["pid"] or now["state"] == "failed":
                    break
                time.sleep(0.05)
            self.assertEqual(now["state"], wanted)
        self.assertEqual(now["pid"], 0)
        # Nobody goes on looking at the dead process.
        spawner = [p for p in json.loads(vm.Control("ps", "--json"))["processes"] if p["name"] == "spawner"][0]
        before = self.Switches(spawner["pid"])
        time.sleep(1)
        self.assertLess(self.Switches(spawner["pid"]) - before, 20)
        vm.PowerOff()

    @staticmethod
    def Switches(pid):
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
