"""Disk images for tests, with contents that both sides can compute or compare."""
import dataclasses
import hashlib
import os
import random
import subprocess

from guest_paths import PathOf

MIB = 1 << 20


@dataclasses.dataclass
class Disk:
    path: str
    writable: bool = False
    suboptions: tuple = ()


def Random(path, size, seed):
    """A file of `size` pseudo-random bytes; gives its sha256."""
    data = random.Random(seed).randbytes(size)
    with open(path, "wb") as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest()


def Sparse(path, size):
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def Sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(MIB):
            digest.update(chunk)
    return digest.hexdigest()


def AllocatedBytes(path):
    return os.stat(path).st_blocks * 512


def CopyRoot(path):
    """A copy of the root disk of our own."""
    subprocess.run(["cp", "--sparse=always", PathOf("root"), path], check=True)
    return path


def ReadFromExt4(image, name):
    """The contents of a file inside an ext4 image, without mounting."""
    return subprocess.run(["/sbin/debugfs", "-R", f"cat {name}", image], check=True, capture_output=True).stdout


def CheckExt4(image):
    """fsck's complaint, or "" for a clean file system."""
    done = subprocess.run(["/sbin/e2fsck", "-fn", image], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr
