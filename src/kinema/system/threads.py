"""Threads of the computation on a CPU whose cores other programs use, too.

The threads of an operation wait for each other, so one whose core is taken holds up all. On two
cores with five other busy processes, training ran at 14.6 videos/s with two threads and at 65.7
with one.
"""

import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

import torch

log = logging.getLogger(__name__)

# PyTorch's variables for the number of threads; who sets one has chosen.
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_SAMPLE_S = 0.3
_STAT = Path("/proc/stat")


def choose_threads(recorded: Path) -> None:
    """Sets PyTorch's threads to the cores that are free now, or those that a run started with.

    Does nothing on machines with a GPU, and where an environment variable sets the number.

    Args:
        recorded: run.json of a run to continue, whose results depend on the number in the last
            digits; it need not exist.
    """
    if torch.cuda.is_available() or any(name in os.environ for name in VARIABLES):
        return
    before = torch.get_num_threads()
    if (threads := _recorded_threads(recorded)) is not None:
        chosen = min(before, threads)
    else:
        chosen = min(before, max(1, round(free_cores(before))))
        if chosen < before:
            log.info(
                "Other programs use the cores: computing with %d of %d threads. OMP_NUM_THREADS "
                "sets another number.",
                chosen,
                before,
            )
    torch.set_num_threads(chosen)


def free_cores(default: float) -> float:
    """Cores of this process that were idle in the last moment; `default` if unknown."""
    first = _idle_and_total()
    time.sleep(_SAMPLE_S)
    last = _idle_and_total()
    if first is None or last is None or last[1] == first[1]:
        return default
    return len(os.sched_getaffinity(0)) * (last[0] - first[0]) / (last[1] - first[1])


def _idle_and_total() -> tuple[int, int] | None:
    """Idle and total ticks so far of the cores that this process may use; None if unknown."""
    try:
        lines = _STAT.read_text(encoding="ascii").splitlines()
        own = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    except (OSError, AttributeError):  # other systems than Linux
        return None
    rows = [line.split() for line in lines]
    # user, nice, system, idle, iowait, irq, softirq, steal
    ticks = [[int(word) for word in row[1:9]] for row in rows if row and row[0] in own]
    return sum(row[3] + row[4] for row in ticks), sum(map(sum, ticks))


def _recorded_threads(facts: Path) -> int | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return max(1, int(json.loads(facts.read_text(encoding="utf-8"))["machine"]["threads"]))
    return None
