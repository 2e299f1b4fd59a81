"""What the runner decided, for the tests to read."""
import os

from guest_paths import SOURCE_DIR

binary = os.path.join(SOURCE_DIR, "build", "release", "crosvm")
backend = "crosvm"  # or "qemu": QEMU stands in, to check the guest material and the harness itself
update_goldens = False
sandbox = True
unprivileged = False  # the tests themselves run as an ordinary user
# Times below and in tests are for hardware; nested KVM under a loaded 2-core host is this much slower.
time_scale = 1.0
work_dir = None
kernels = ["6.1", "6.12"]
golden_dir = os.path.join(SOURCE_DIR, "tests", "e2e", "golden")
