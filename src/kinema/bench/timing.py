"""Timing forms of the same work against each other on a machine that is never quite quiet."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Clock = Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """Seconds of one form.

    Attributes:
        seconds: The median over the rounds.
        spread: Half the distance between the quartiles, relative to the median.
        rounds: How many times it was timed.
        p99: The 99th percentile; of less than 100 rounds nearly the largest.
    """

    seconds: float
    spread: float
    rounds: int
    p99: float


def alternate(
    forms: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 9,
    warmup: int = 1,
    clock: Clock = time.perf_counter,
    setup: Callable[[str], object] = lambda _: None,
) -> dict[str, Timing]:
    """Times every form once per round, in turns, so that a busy moment meets all of them.

    Args:
        forms: What to run, by name.
        rounds: Timed rounds; the median counts.
        warmup: Runs of every form before them, untimed.
        clock: `time.process_time` counts the CPU time of the process instead of the time passed.
        setup: Called with the name of a form before each of its runs, untimed.
    """
    for name, run in forms.items():
        setup(name)
        for _ in range(warmup):
            run()
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, run in forms.items():
            setup(name)
            times[name].append(_seconds(run, clock))
    return {name: _timing(values) for name, values in times.items()}


def _seconds(run: Callable[[], Any], clock: Clock) -> float:
    _wait_for_gpu()
    start = clock()
    run()
    _wait_for_gpu()
    return clock() - start


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _timing(values: list[float]) -> Timing:
    median = statistics.median(values)
    low, high, p99 = (float(np.quantile(values, share)) for share in (0.25, 0.75, 0.99))
    return Timing(median, (high - low) / 2 / median, len(values), p99)
