"""What the tests of shared directories have in common: programs for guests, file systems of the host to share."""
import glob
import os
import subprocess

PROGRAMS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "programs")


def Build(name, output):
    """Compiles programs/NAME.c, or all of programs/NAME/, so that it runs in any guest."""
    folder = os.path.join(PROGRAMS, name)
    sources = sorted(glob.glob(os.path.join(folder, "*.c"))) if os.path.isdir(folder) else [folder + ".c"]
    subprocess.run(["cc", "-static", "-O1", "-pthread", "-D_GNU_SOURCE", "-o", output, *sources], check=True)
    return output


class LoopFileSystem:
    """An ext4 of `mib` MiB in a file, mounted at `place`. As root only."""

    def __init__(self, image, place, mib):
        self.place = place
        MakeExt4(image, mib)
        os.makedirs(place)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)

    def Unmount(self):
        subprocess.run(["umount", "-l", self.place], check=False)


def MakeExt4(image, mib):
    with open(image, "wb") as file:
        file.truncate(mib << 20)
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-m", "0", "-b", "4096", image], check=True)
    return image
