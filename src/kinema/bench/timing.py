"""Alternating timing of different forms of the same work, robust to other load."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Clock = Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """Time of one form."""

    seconds: float  # median over the rounds
    spread: float  # half the interquartile range relative to the median
    p99: float  # 99th percentile; near the maximum for less than 100 rounds


def alternate(
    forms: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 9,
    warmup: int = 1,
    clock: Clock = time.perf_counter,
    setup: Callable[[str], object] = lambda _: None,
) -> dict[str, Timing]:
    """Times every form once per round, so that other load affects all of them alike.

    Args:
        forms: Functions to time, by name.
        rounds: Timed rounds; the median counts.
        warmup: Untimed runs of every form before them.
        clock: `time.process_time` measures the CPU time of the process instead of wall time.
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
    low, median, high, p99 = np.quantile(values, (0.25, 0.5, 0.75, 0.99)).tolist()
    return Timing(median, (high - low) / 2 / median, p99)
