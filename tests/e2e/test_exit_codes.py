"""How a guest's end becomes crosvm's exit status."""
import signal

from e2e import E2eTest, EachKernel


@EachKernel
class VirtioConsoleOnly(E2eTest):
    """A virtio-console as the only console; the guest panics at the end."""

    ordered = True

    def test_1_dialogue_over_hvc0(self):
        vm = self.Vm(options=["--serial", "type=stdout,hardware=virtio-console,num=1,console=true,stdin=true",
                              "--serial", "type=sink,hardware=serial,num=1"])
        vm.Boot(20)
        type(self).shared = vm
        self.assertEqual(vm.Check("cat /sys/class/tty/console/active").split()[-1], "hvc0")

    def test_2_much_output_is_whole(self):
        output = self.Shared().Check("seq 1 1000", 30)
        self.assertEqual(output.split(), [str(number) for number in range(1, 1001)])

    def test_3_panic_gives_status_34(self):
        self.Shared().Send("9 echo c >/proc/sysrq-trigger\n")
        self.Shared().ExpectExit(34, 20)


class Signals(E2eTest):
    """SIGTERM and SIGINT stop the VM in order; the terminal is as before."""

    def test_sigterm_and_terminal(self):
        vm = self.Vm(test_mode="stay", terminal=True)
        vm.Start()
        vm.WaitFor("tick 2", 15)
        vm.Signal(signal.SIGTERM)
        self.assertIn(vm.Wait(), (0, 128 + signal.SIGTERM, -signal.SIGTERM))
        self.assertEqual(vm.TerminalState(), vm._terminal_before)
        vm.Finish()
