"""The control socket: power button, suspend, resume, stop; what happens to the socket file."""
import os
import time

from e2e import E2eTest, EachKernel


@EachKernel
class PowerButton(E2eTest):
    def test_guest_powers_off_on_request(self):
        vm = self.Vm(test_mode="powerbtn", socket=True)
        vm.Start()
        vm.WaitFor("waiting for the power button", 20)
        vm.Control("powerbtn")
        vm.WaitFor("power button pressed", 10)
        vm.ExpectExit(0)


class SuspendAndResume(E2eTest):
    quick = True

    def test_guest_stands_still_and_goes_on(self):
        vm = self.Vm(test_mode="stay", socket=True)
        vm.Start()
        vm.WaitFor("tick 3$", 20)
        vm.Control("suspend")
        # What was under way when the processors stopped may still come out.
        time.sleep(2)
        before = len(vm.console)
        time.sleep(3)
        self.assertEqual(len(vm.console), before, "the guest went on while suspended")
        vm.Control("resume")
        last = int(vm.console.rstrip().rsplit("tick ", 1)[1].split()[0])
        vm.WaitFor(rf"tick {last + 3}$", 10)
        vm.Control("stop")
        vm.ExpectExit(0)
        self.assertFalse(os.path.exists(vm.socket))
