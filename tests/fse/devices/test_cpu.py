"""The processor."""

import platform
import subprocess
import sys

import pytest

# How many pages the system hands out for a large array, the second time.
PAGES = """
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_memory_that_was_given_back_is_kept_for_the_next_step() -> None:
    pages = {}
    for word in ("keep", "leave"):
        done = subprocess.run([sys.executable, "-c", PAGES, word], stdout=subprocess.PIPE, check=True)
        pages[word] = int(done.stdout.split()[-1])
    assert 10 * pages["keep"] < pages["leave"]
