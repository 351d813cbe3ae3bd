"""What is set for a whole process."""

import platform
import subprocess
import sys

from train import machine

# Writes to new arrays of 64 MB, and counts how many pages the operating system had to hand out.
COUNT = """
import resource
import numpy as np
from train import machine

if {keep}:
    assert machine.keep_memory()
for turn in range(6):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(1 << 23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(keep: bool) -> int:
    command = [sys.executable, "-c", COUNT.format(keep=keep)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_large_arrays_are_not_given_back():
    # The setting is one of glibc's: with another C library there is nothing to be set.
    if platform.libc_ver()[0] == "glibc":
        assert pages(keep=True) < pages(keep=False) / 10
    else:
        assert not machine.keep_memory()
