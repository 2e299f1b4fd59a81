"""Peers for the tests of virtual sockets: the guest's program, and servers on the host's side."""
import os
import socket
import subprocess
import threading

import settings

SOURCE = os.path.join(os.path.dirname(os.path.realpath(__file__)), os.pardir, "programs", "vsock_peer.c")


def MakePeerDisk(path):
    """A disk that is the guest's program, padded to sectors; InstallPeer() copies it off."""
    program = path + ".program"
    subprocess.run([os.environ.get("CC", "cc"), "-O1", "-static", "-o", program, SOURCE], check=True)
    with open(program, "rb") as file:
        data = file.read()
    os.unlink(program)
    with open(path, "wb") as file:
        file.write(data + b"\0" * (-len(data) % 4096))


def InstallPeer(vm, device):
    vm.Check(f"dd if=/dev/{device} of=/tmp/vsock_peer bs=64k 2>/dev/null && chmod 755 /tmp/vsock_peer")
    vm.Check("modprobe vmw_vsock_virtio_transport 2>/dev/null; [ -e /dev/vsock ]")


class Server:
    """Accepts on a listening socket; `serve(connection)` runs on a thread for each. Ends with Close()."""

    def __init__(self, listener, serve):
        self.listener, self.serve, self.connections = listener, serve, 0
        self._thread = threading.Thread(target=self._Run, daemon=True)
        self._thread.start()

    def _Run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._Serve, args=(connection,), daemon=True).start()

    def _Serve(self, connection):
        with connection:
            try:
                self.serve(connection)
            except OSError:
                pass

    def Close(self):
        self.listener.close()


def Echo(connection):
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def UnixListener(path, backlog=16):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(backlog)
    return listener


def Dial(path, port):
    """A connection to a port of the guest, by the listening socket in the folder of --vsock."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(20 * settings.time_scale)
    connection.connect(path)
    connection.sendall(f"CONNECT {port}\n".encode())
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            connection.close()
            raise ConnectionRefusedError(f"no OK for port {port}")
        line += byte
    if not line.startswith(b"OK "):
        raise ConnectionError(f"instead of OK: {line!r}")
    return connection
