"""Live sources: the protocol, and their frames."""

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)

# Interval at which waiting threads check whether to stop.
POLL_S = 0.05

# Live frames arrive late and in groups. A step of their times that is longer than the wait for the
# frame by more than this is one of the clock.
BURST_S = 2.0
# Smallest step between the times of two frames.
SMALLEST_S = 1e-3

Stopped = Callable[[], bool]


@dataclass(frozen=True)
class LiveFrame:
    """One frame of a live source.

    Attributes:
        number: Position among all frames of the source, from 0.
        time_s: Time since the first frame; it rises.
        picture: (H, W, 3) uint8 RGB, upright.
        connection: Number of reconnects before this frame.
        time_steps: Number of times that the clock of the source has stepped, up to this frame.
        time_outliers: Number of single frames whose times were replaced, up to this frame.
    """

    number: int
    time_s: float
    picture: NDArray[np.uint8]
    connection: int = 0
    time_steps: int = 0
    time_outliers: int = 0


Frames = Generator[LiveFrame, None, None]


class LiveSource(Protocol):
    """Camera, network address, pipe or file that yields one frame after the other."""

    @property
    def name(self) -> str:
        """Name in messages."""

    @property
    def is_live(self) -> bool:
        """True if frames arrive in real time, at the pace of the source."""

    @property
    def reconnects(self) -> int:
        """Number of reconnects so far."""

    def frames(self, stopped: Stopped) -> Frames:
        """Yields frames until the source ends or `stopped()` is true; polls it while waiting."""

    def close(self) -> None:
        """Closes the source."""


def log_step(name: str) -> None:
    """Warns of the first step of a source's clock."""
    message = "%s: the clock has stepped; times go on at the frame period. The summary counts all."
    _log.warning(message, name)


def sleep_until(moment_s: float, stopped: Stopped) -> None:
    """Sleeps until a moment of `time.monotonic`, or until `stopped()` is true."""
    while (left_s := moment_s - time.monotonic()) > 0 and not stopped():
        time.sleep(min(left_s, POLL_S))
