"""Keeping freed memory; in a process of its own, because it is set for good."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import torch
from kinema.system.process import keep_freed_memory
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

# As in a network: sizes differ, and some tensors outlive others.
IN_A_THREAD = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import torch
from kinema.system.process import keep_freed_memory
assert keep_freed_memory(in_threads=sys.argv[1] == "keep")
def step():
    held = [torch.ones(4_000_000 * (1 + n % 3)) for n in range(6)][::2]
    held += [torch.ones(8_000_000) for _ in range(6)]
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def count():
    for _ in range(20):
        step()
    before = faults()
    for _ in range(20):
        step()
    return faults() - before
print(ThreadPoolExecutor(1).submit(count).result())
"""


def faults_of(script: str) -> dict[str, int]:
    """How often the kernel gave new pages, with and without keeping them."""
    return {
        mode: int(
            subprocess.run(
                [sys.executable, "-c", script, mode], capture_output=True, text=True, check=True
            ).stdout
        )
        for mode in ("keep", "return")
    }


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the settings")
def test_kept_memory_is_used_again():
    faults = faults_of(STEPS)
    assert faults["keep"] < faults["return"] / 5


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the settings")
def test_memory_of_other_threads_is_kept_too():
    faults = faults_of(IN_A_THREAD)
    assert faults["keep"] < faults["return"] / 2
