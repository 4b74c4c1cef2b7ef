"""Work on many items in processes of their own."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import repeat
from typing import Any, TypeVar

from kinema.errors import KinemaError
from kinema.system.process import usable_cores

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_in_processes(
    work: Callable[..., _Result],
    items: Sequence[_Item],
    *shared: Any,
    workers: int | None,
    chunk: int = 1,
) -> Iterator[_Result]:
    """Yields `work(item, *shared)` for every item, in order.

    Args:
        work: A function of a module; it and its arguments are pickled.
        items: First arguments.
        shared: Further arguments, the same for every item.
        workers: Processes; None for one per usable core, 0 to work in this process.
        chunk: Items that a process takes at a time.

    Raises:
        KinemaError: a process was killed, by the system for want of memory or from outside.
    """
    count = usable_cores() if workers is None else workers
    if count == 0:
        yield from map(work, items, *map(repeat, shared))
        return
    # Spawned, not forked: FFmpeg and PyTorch have threads that a fork would not copy.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        try:
            yield from pool.map(work, items, *map(repeat, shared), chunksize=chunk)
        except BrokenProcessPool:
            raise KinemaError(
                "A worker process was killed, perhaps for want of memory. Finished files are kept: "
                "start again with fewer workers to continue."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
