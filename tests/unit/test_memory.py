"""Keeping freed memory; in a process of its own, because it is set for good."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import torch
from kinema.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.ones(16_000_000).add(1)  # above 32 MB glibc maps and unmaps every time
before = faults()
for _ in range(20):
    torch.ones(16_000_000).add(1)
print(faults() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the settings")
def test_kept_memory_is_used_again():
    faults = {
        mode: int(
            subprocess.run(
                [sys.executable, "-c", STEPS, mode], capture_output=True, text=True, check=True
            ).stdout
        )
        for mode in ("keep", "return")
    }
    assert faults["keep"] < faults["return"] / 5
