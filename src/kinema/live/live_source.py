"""What a source of live frames is, and the waiting that it does."""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# How often whoever waits looks whether it is to stop.
POLL_S = 0.05

Stopped = Callable[[], bool]


@dataclass(frozen=True)
class LiveFrame:
    """One frame of a source.

    Attributes:
        number: Its place among all frames of the source, from 0.
        time_s: Its time since the first frame.
        picture: (H, W, 3) uint8 RGB, upright.
        connection: How often the source had been lost and found again before this frame.
    """

    number: int
    time_s: float
    picture: NDArray[np.uint8]
    connection: int = 0


Frames = Generator[LiveFrame, None, None]


class LiveSource(Protocol):
    """Something that gives one frame after the other."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def is_live(self) -> bool:
        """Whether it goes on without waiting for its reader."""

    @property
    def reconnects(self) -> int:
        """How often it was lost and found again."""

    def frames(self, stopped: Stopped) -> Frames:
        """All frames until it ends or `stopped` says so, which is asked while waiting."""

    def close(self) -> None:
        """Gives it back."""


def at_pace(frames: Frames, stopped: Stopped) -> Frames:
    """Holds every frame back until its time has come."""
    began: float | None = None
    for frame in frames:
        if began is None:
            began = time.monotonic() - frame.time_s
        sleep_until(began + frame.time_s, stopped)
        yield frame


def sleep_until(moment_s: float, stopped: Stopped) -> None:
    """Waits for a moment of `time.monotonic`, or until it is to stop."""
    while (left_s := moment_s - time.monotonic()) > 0 and not stopped():
        time.sleep(min(left_s, POLL_S))
