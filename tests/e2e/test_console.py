"""Serial ports in their forms, and several virtio-console ports."""
import os
import socket

import settings
from e2e import E2eTest


class SerialPorts(E2eTest):
    """All four UARTs, each with another back end, and two virtio-console ports."""

    ordered = True

    def test_1_boots_with_all(self):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(self.Path("unix.sock"))
        listener.settimeout(10 * settings.time_scale)
        type(self).listener = listener
        os.mkfifo(self.Path("input"))
        vm = self.Vm(options=[
            "--serial", "type=stdout,hardware=serial,num=1,console=true,stdin=true",
            "--serial", f"type=file,hardware=serial,num=2,path={self.Path('com2')},input={self.Path('input')}",
            "--serial", f"type=unix,hardware=serial,num=3,path={self.Path('unix.sock')}",
            "--serial", "type=sink,hardware=serial,num=4",
            "--serial", f"type=unix,hardware=virtio-console,num=2,path={self.Path('unix.sock')}",
            "--serial", f"type=file,hardware=virtio-console,num=1,path={self.Path('hvc0')}"])
        vm.Boot(20)
        type(self).shared = vm

    def test_2_file(self):
        self.Shared().Check("echo to the second port >/dev/ttyS1; sleep 0.2")
        with open(self.Path("com2"), encoding="ascii") as file:
            self.assertIn("to the second port", file.read())
        # The guest listens first: what comes before a port is opened is lost, as on any serial port.
        self.Shared().Check("(head -n 1 /dev/ttyS1 >/tmp/com2.input) & sleep 0.5")
        with open(self.Path("input"), "w", encoding="ascii") as file:
            file.write("from a file\n")
        self.Shared().Check("while [ ! -s /tmp/com2.input ]; do sleep 0.1; done", 20)
        self.assertIn("from a file", self.Shared().Check("cat /tmp/com2.input"))

    def test_3_unix_socket(self):
        for device, words in {"ttyS2": b"hello socket", "hvc1": b"from another process"}.items():
            self.Shared().Check(f"echo {words.decode()} >/dev/{device}")
            text = b""
            while words not in text:
                text += self.listener.recv(4096)

    def test_4_sink_and_hvc(self):
        self.Shared().Check("echo nobody >/dev/ttyS3; echo to hvc >/dev/hvc0; sleep 0.2")
        with open(self.Path("hvc0"), encoding="ascii") as file:
            self.assertIn("to hvc", file.read())

    def test_5_much_input_is_whole(self):
        text = "x" * 2000
        self.assertEqual(self.Shared().Check(f"echo {text} | wc -c").strip(), "2001")

    def test_6_powers_off(self):
        self.Shared().PowerOff()
        self.listener.close()
        self.assertTrue(os.path.exists(self.Path("com2")))
