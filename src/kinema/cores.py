"""How many processor cores there are for this process; no PyTorch, so that starting is cheap."""

import os


def usable_cores() -> int:
    """Processor cores that this process may use: in a container often not all of them."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
