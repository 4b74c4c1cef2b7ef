"""Resource use of a process and its descendants (Linux)."""

import os
from pathlib import Path

# Fields of /proc/PID/stat after the name: user and kernel time of the process and of its ended
#
# children (proc(5)).
_TIMES = slice(11, 15)


def resident_mb(pid: int) -> float | None:
    """Resident memory in MB of a process and its descendants; None if unknown.

    Shared pages count once per process.
    """
    pages = sum(int(words[1]) for one in _tree(pid) if (words := _read(one, "statm")))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6 if pages else None


def own_resident_mb(pid: int) -> float | None:
    """Resident memory in MB of one process; None if unknown."""
    words = _read(pid, "statm")
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if words else None


def cpu_seconds(pid: int) -> float | None:
    """CPU time of a process and its descendants so far; None if unknown."""
    found = [words for one in _tree(pid) if (words := _read(one, "stat"))]
    ticks = sum(int(ticks) for words in found for ticks in words[_TIMES])
    return ticks / os.sysconf("SC_CLK_TCK") if found else None


def _tree(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:  # the thread has just ended
            continue
        for child in children:
            found += _tree(child)
    return found


def _read(pid: int, name: str) -> list[str]:
    """Fields of a /proc file after the process name; empty if the process has just ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text().rpartition(")")[2].split()
    except OSError:
        return []
