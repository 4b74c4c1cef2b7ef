"""Cores and memory of this process. Imports no PyTorch, so that starting is cheap."""

import ctypes
import os
import platform


def usable_cores() -> int:
    """Number of processor cores that this process may use; in a container often not all of them."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory(*, in_threads: bool = False) -> bool:
    """Keeps freed memory in the process for the next step instead of returning it to the system.

    By default glibc maps every large tensor anew in each step and the kernel clears its pages, a
    third of the time of a MobileNetV2 step at 96 pixels on two cores. Kept memory is reused at
    once; the process stays as large as its largest step.

    Args:
        in_threads: True if the network runs outside the main thread. Other threads have arenas of
            their own, which would still map large tensors; threads that start after this call
            share the main arena.

    Returns:
        True if the setting was applied; only glibc has it.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    if in_threads and not libc.mallopt(_M_ARENA_MAX, 1):
        return False
    return bool(
        libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, ctypes.c_int(2**31 - 1))
    )


def bound_memory(more_bytes: int) -> None:
    """Limits the address space of this process to its size plus `more_bytes`; no core files.

    For sandboxed decoder processes on Linux.
    """
    import resource  # the module exists on Unix only; other systems do not call this

    with open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + more_bytes, size + more_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def give_back_freed_memory() -> bool:
    """Undoes `keep_freed_memory` with glibc's defaults and returns all free memory."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    set_back = libc.mallopt(_M_MMAP_MAX, 65536) and libc.mallopt(_M_TRIM_THRESHOLD, 128 * 1024)
    libc.malloc_trim(0)
    return bool(set_back)
