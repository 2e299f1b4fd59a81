"""Frames between tools/nested-kvm and the agent inside its machine: type (1 byte), length (4, little endian), payload.

Kept free of imports beyond struct and os: it is read at TCG speed on every start.
"""
import os
import struct

HEADER = struct.Struct("<BI")

# agent -> wrapper
HELLO, STDOUT, STDERR, EXIT, ALIVE = 1, 2, 3, 4, 5
# Seconds between the frames by which the agent shows that its machine still runs.
ALIVE_EVERY = 5
# wrapper -> agent (STDIN with no payload is end of file)
STDIN, SIGNAL, WINDOW = 16, 17, 18


def Pack(kind, payload=b""):
    return HEADER.pack(kind, len(payload)) + payload


def WriteAll(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


class Unpacker:
    """Takes bytes as they come, gives whole frames."""

    def __init__(self):
        self._pending = bytearray()

    def Feed(self, data):
        self._pending += data
        frames = []
        while len(self._pending) >= HEADER.size:
            kind, length = HEADER.unpack_from(self._pending)
            if len(self._pending) < HEADER.size + length:
                break
            frames.append((kind, bytes(self._pending[HEADER.size:HEADER.size + length])))
            del self._pending[:HEADER.size + length]
        return frames
