"""How many processor cores there are for this process; no PyTorch, so that starting is cheap."""

import ctypes
import os
import platform


def usable_cores() -> int:
    """Processor cores that this process may use: in a container often not all of them."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
# Their values when a process starts.
_TRIM_THRESHOLD, _MMAP_MAX = 128 * 1024, 65536


def keep_freed_memory(*, in_threads: bool = False) -> bool:
    """Lets this process keep freed memory for the next step instead of giving it back.

    By default glibc maps every large tensor anew and the kernel clears its pages, in each step
    again: a third of the time of a MobileNetV2 step at 96 pixels on two cores. Kept memory is
    used again at once; the process stays as large as its largest step.

    Args:
        in_threads: Whether the network runs in another thread than the main one. Others have
            memory of their own, where large tensors are mapped all the same; threads that start
            after this call share that of the main thread.

    Returns:
        Whether there was something to set; only glibc has these settings.
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
    """Refuses this process addresses beyond those that it has and so many more; no core files.

    For processes on Linux that decode what strangers send, and die of it alone.
    """
    import resource  # other systems have no such module, and no process calls this there

    with open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + more_bytes, size + more_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def give_back_freed_memory() -> bool:
    """Undoes `keep_freed_memory` and gives all free memory back, as in a process just started."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    set_back = libc.mallopt(_M_MMAP_MAX, _MMAP_MAX) and libc.mallopt(
        _M_TRIM_THRESHOLD, _TRIM_THRESHOLD
    )
    libc.malloc_trim(0)
    return bool(set_back)
