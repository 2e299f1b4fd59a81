"""Foreign peers over vhost-user: QEMU drives our devices, our VM uses QEMU's storage daemon."""
import os
import subprocess
import time

import images
import settings
import vsock_peers
from e2e import E2eTest
from guest_paths import PathOf
from processes import ProcessGroup


class Peer:
    """A helper process that serves a vhost-user socket."""

    def __init__(self, command, sockets):
        self.group = ProcessGroup()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, preexec_fn=self.group.Enter, text=True)
        deadline = time.monotonic() + 5 * settings.time_scale
        while not all(os.path.exists(path) for path in sockets):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.Close()
                raise AssertionError(f"{' '.join(command)} did not open its socket: {self.process.stdout.read()}")
            time.sleep(0.05)

    def Close(self):
        self.group.Kill()
        self.process.wait()
        self.group.Close()


def QemuWith(devices, image="vmlinux", mem=256):
    """QEMU's command line around vhost-user devices: shared memory, and a console for the dialogue."""
    return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-M", "microvm,pcie=on,rtc=on", "-accel", "kvm",
            "-cpu", "host", "-object", f"memory-backend-memfd,id=mem,size={mem}M,share=on", "-m", str(mem),
            "-machine", "memory-backend=mem", "-kernel", PathOf(image), "-initrd", PathOf("initramfs"),
            "-append", "console=ttyS0 reboot=t panic=-1 quiet crosvm.test=shell", "-serial", "stdio", "-display", "none",
            "-no-reboot", *devices]


class QemuDrivesOurDevices(E2eTest):
    """`crosvm device block` and `device rng` behind QEMU's vhost-user front ends."""

    def Peer(self, command, *sockets):
        peer = Peer(command, sockets)
        self.addCleanup(peer.Close)
        return peer

    def BootQemu(self, devices):
        vm = self.Vm()
        vm.Command = lambda: QemuWith(devices)
        vm.Boot(20)
        return vm

    def test_block_and_rng(self):
        content = images.Random(self.Path("disk"), 8 * images.MIB, 7)
        block, rng = self.Path("block.sock"), self.Path("rng.sock")
        self.Peer([settings.binary, "device", "block", "--socket-path", block, self.Path("disk")], block)
        self.Peer([settings.binary, "device", "rng", "--socket-path", rng], rng)
        vm = self.BootQemu(["-chardev", f"socket,id=b,path={block}", "-device", "vhost-user-blk-pci,chardev=b",
                            "-chardev", f"socket,id=r,path={rng}", "-device", "vhost-user-rng-pci,chardev=r"])
        self.assertIn(content, vm.Check("sha256sum /dev/vda", 30))
        digest = vm.Check("dd if=/dev/urandom of=/dev/vda bs=64k count=16 oflag=direct 2>/dev/null && sync && "
                          "dd if=/dev/vda bs=64k count=16 2>/dev/null | sha256sum", 30).split()[0]
        self.assertEqual(vm.Check("dd if=/dev/hwrng bs=256 count=4 2>/dev/null | wc -c").strip(), "1024")
        vm.PowerOff()
        import hashlib
        with open(self.Path("disk"), "rb") as file:
            self.assertEqual(hashlib.sha256(file.read(1 << 20)).hexdigest(), digest)


class OurVmUsesForeignDevices(E2eTest):
    """`--vhost-user-blk` with the export of qemu-storage-daemon; `--vhost-user-console` with `crosvm device console`,
    which no VMM of Debian 12 has a front end for (QEMU 7.2 knows vhost-user blk, fs, gpu, i2c, input, net, rng, scsi
    and vsock; its vhost-user-device-pci came with 8.2)."""

    def test_qemu_storage_daemon(self):
        content = images.Random(self.Path("disk"), 8 * images.MIB, 8)
        path = self.Path("qsd.sock")
        peer = Peer(["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=f,filename={self.Path('disk')}",
                     "--export", f"type=vhost-user-blk,id=e,node-name=f,writable=on,addr.type=unix,addr.path={path}"],
                    [path])
        self.addCleanup(peer.Close)
        vm = self.Vm(options=["--vhost-user-blk", path])
        vm.Boot(20)
        self.assertIn(content, vm.Check("sha256sum /dev/vda", 30))
        vm.Check("dd if=/dev/urandom of=/dev/vda bs=64k count=16 oflag=direct && sync", 30)
        vm.PowerOff()

    def test_console_in_another_process(self):
        path, output = self.Path("console.sock"), self.Path("output")
        peer = Peer([settings.binary, "device", "console", "--socket-path", path, f"type=file,path={output}"], [path])
        self.addCleanup(peer.Close)
        vm = self.Vm(options=["--vhost-user-console", path])
        vm.Boot(20)
        vm.Check("seq 1 100 >/dev/hvc0", 30)
        vm.PowerOff()
        with open(output, encoding="ascii") as file:
            self.assertEqual(file.read().split(), [str(number) for number in range(1, 101)])

    def test_virtual_sockets_in_another_process(self):
        path, folder = self.Path("vsock.sock"), self.Path("sockets")
        os.mkdir(folder)
        peer = Peer([settings.binary, "device", "vsock", "--socket-path", path, f"cid=9,path={folder}"], [path])
        self.addCleanup(peer.Close)
        vsock_peers.MakePeerDisk(self.Path("peer"))
        vm = self.Vm(options=["--vhost-user-vsock", path], disks=[images.Disk(self.Path("peer"))])
        vm.Boot(20)
        vsock_peers.InstallPeer(vm, "vda")
        vm.Check("(/tmp/vsock_peer echo 2000 > /tmp/echo.log 2>&1 &); "
                 "while ! grep -q serving /tmp/echo.log; do sleep 0.1; done")
        with vsock_peers.Dial(os.path.join(folder, "connect"), 2000) as connection:
            connection.sendall(b"there and back")
            self.assertEqual(connection.recv(100), b"there and back")
        vm.PowerOff()
