"""The CPU device."""

import platform
import subprocess
import sys

import pytest

# Prints the number of page faults of allocating a large array for the second time.
PAGE_FAULTS = """
import resource, sys
import numpy as np
from fse.devices import cpu

if "keep" in sys.argv:
    cpu.keep_memory()
faults = []
for _ in range(3):
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    np.ones(1 << 25)
print(faults[2] - faults[1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can keep freed memory")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    faults = {}
    for word in ("keep", "leave"):
        done = subprocess.run([sys.executable, "-c", PAGE_FAULTS, word], stdout=subprocess.PIPE, check=True)
        faults[word] = int(done.stdout.split()[-1])
    assert 10 * faults["keep"] < faults["leave"]
