"""Runs the cells of a sweep, each in its own process and several at once."""

import logging
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import torch

from kinema.errors import KinemaError, check_range
from kinema.sweep.cell import read_result, run_cell
from kinema.sweep.spec import Cell, Sweep
from kinema.synthetic.motion_set import render_motion_set
from kinema.system.folder_lock import locked_folder
from kinema.system.process import usable_cores

LOG_FILE = "log.txt"
ERROR = "Error: "
START = "--- started"  # first line of every attempt in the log

Known = Mapping[tuple[str, int], dict[str, Any]]
Finished = Callable[[Cell, dict[str, Any] | None], object]


def run_sweep(
    sweep: Sweep,
    *,
    jobs: int = 1,
    known: Known = MappingProxyType({}),
    rendering: Callable[[int, int], None] | None = None,
    finished: Finished | None = None,
) -> list[dict[str, Any]]:
    """Trains and tests every cell that is not finished.

    A stopped or killed sweep resumes with identical numbers as long as `jobs` is the same: the
    CPU threads are divided among the jobs, and another number of threads rounds sums in another
    order.

    Args:
        sweep: The sweep to run.
        jobs: Concurrent trainings. They take the GPUs in turn; without a GPU they share the cores.
        known: Results of finished trainings by variant and seed (see `known_results`).
        rendering: Called with (videos done, videos in all) while motion sets are rendered.
        finished: Called after every cell with its result, or None for one that failed.

    Returns:
        The results, in the order of the cells.

    Raises:
        OptionError: `jobs` is below 1, or another process works in the same folder.
        RecipeError: finished cells were trained with other settings.
        KinemaError: cells failed; the message names them and their reasons. All others are
            finished.
    """
    check_range(at_least=1, jobs=jobs)
    with locked_folder(sweep.out, task="Another sweep"):
        for folder, settings in sweep.motion.items():
            render_motion_set(folder, settings=settings, progress=rendering)
        results = {cell.run: _finished(cell, known) for cell in sweep.cells}
        for cell in _ended([c for c in sweep.cells if results[c.run] is None], jobs):
            results[cell.run] = read_result(cell)
            if finished is not None:
                finished(cell, results[cell.run])
    failed = [cell for cell in sweep.cells if results[cell.run] is None]
    if failed:
        reasons = "\n".join(f"- {cell.name}: {_reason(cell)}" for cell in failed)
        raise KinemaError(
            f"{len(failed)} of {len(sweep.cells)} trainings failed; run the sweep again to retry "
            f"them.\n{reasons}"
        )
    return [result for result in results.values() if result is not None]


def finished_results(sweep: Sweep, *, known: Known = MappingProxyType({})) -> list[dict[str, Any]]:
    """Results of the cells that are finished, here or in `known`; trains nothing.

    Raises:
        KinemaError: none is, a result is damaged, or cells were trained with other settings.
    """
    found = [result for cell in sweep.cells if (result := _finished(cell, known)) is not None]
    if not found:
        raise KinemaError(f"No training of {sweep.source} is finished in {sweep.out}.")
    return found


def _finished(cell: Cell, known: Known) -> dict[str, Any] | None:
    return read_result(cell) or known.get((cell.variant, cell.seed))


def _ended(cells: list[Cell], jobs: int) -> Iterator[Cell]:
    """Starts the cells, at most `jobs` at once, and yields each when its process has ended."""
    waiting, running = list(reversed(cells)), dict[int, tuple[BaseProcess, Cell]]()
    free = list(reversed(range(jobs)))
    try:
        while waiting or running:
            while waiting and free:
                slot, cell = free.pop(), waiting.pop()
                running[slot] = (_start(cell, slot, jobs), cell)
            wait([process.sentinel for process, _ in running.values()])
            for slot, (process, cell) in list(running.items()):
                if not process.is_alive():
                    process.join()
                    del running[slot]
                    free.append(slot)
                    yield cell
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()


def _start(cell: Cell, slot: int, jobs: int) -> BaseProcess:
    gpus = torch.cuda.device_count()
    process = _beginnings().Process(
        target=_run_alone,
        args=(
            cell,
            str(slot % gpus) if gpus else None,
            max(1, usable_cores() // jobs),
            multiprocessing.get_start_method(),
        ),
    )
    process.start()
    return process


def _beginnings() -> ForkServerContext | SpawnContext:
    """Start method of the cells: a fork server that has done the imports, if the system has it.

    Imports take most of the start-up time, and forked processes share their memory.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([run_cell.__module__])
    return context


def _run_alone(cell: Cell, gpu: str | None, threads: int, workers_begin: str) -> None:
    """Main function of a cell's process; its output goes to the log beside the run folder."""
    # Otherwise the loader's workers would use this start method too, which is slow in every epoch.
    multiprocessing.set_start_method(workers_begin, force=True)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    log_file = _log_file(cell)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("a", encoding="utf-8") as log:
        print(START, file=log, flush=True)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("kinema").setLevel(logging.INFO)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    torch.set_num_threads(threads)
    try:
        run_cell(cell)
    except KinemaError as error:
        _give_up(str(error))
    except Exception as error:  # any fault of a training goes to its log; the other cells go on
        traceback.print_exc()
        _give_up(f"{type(error).__name__}: {error}")


def _give_up(reason: str) -> NoReturn:
    print(f"{ERROR}{reason}", file=sys.stderr, flush=True)
    sys.exit(1)


def _die_with_parent() -> None:
    """Ends this process when the sweep's process has ended, even if it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _log_file(cell: Cell) -> Path:
    """Log file of a cell, beside its run folder, which must be empty when training starts."""
    return cell.run.with_name(f"{cell.run.name}.{LOG_FILE}")


def _reason(cell: Cell) -> str:
    """The last error of the latest attempt in the log of a cell."""
    log_file = _log_file(cell)
    text = log_file.read_text(encoding="utf-8") if log_file.is_file() else ""
    lines = text.rpartition(f"{START}\n")[2].splitlines()
    errors = [line for line in lines if line.startswith(ERROR)]
    what = errors[-1].removeprefix(ERROR) if errors else "its process was killed"
    return f"{what} (see {log_file})"
