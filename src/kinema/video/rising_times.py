"""Times of successive frames on one rising line, even if the clock of the recording stepped."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from statistics import median_low
from typing import TypeVar

# Steps whose median is the frame period: one lost frame must not change it.
_MEDIAN_STEPS = 9

# The longest run of wrong times that is corrected as outliers; a longer one counts as a step.
_LOOK_AHEAD = 3

# Decoders may swap the times of frames (AVI with B-frames). Times that are wrong by no more frame
# periods than this are corrected but not counted. A decoder of H.264 reorders at most 16 pictures.
_SWAPPED = 16

Item = TypeVar("Item")


class RisingTimes:
    """Puts the times of successive frames on one rising line; times may have any unit.

    Clocks are set during recordings, recordings are joined without new timestamps, and single
    timestamps are wrong. If the clock steps, the first frame after the step is placed one frame
    period after the frame before, and all later times are shifted with it. If the later times go on
    as before, only the ones in between are wrong (outliers): they are replaced by times between
    their neighbors.

    Args:
        period: Frame period until steps between frames are known.
        smallest: Smallest step from one time to the next.
        wrap: Time after which the clock starts at 0 again; None if it never does.

    Attributes:
        steps: Number of steps of the clock.
        outliers: Number of wrong times that were replaced.
    """

    def __init__(
        self, *, period: float = 0, smallest: float = 1, wrap: float | None = None
    ) -> None:
        self.steps = 0
        self.outliers = 0
        self._first_period = period
        self._smallest = smallest
        self._wrap = wrap
        self._seen: deque[float] = deque(maxlen=_MEDIAN_STEPS)
        self._own: float = 0  # newest time on the line, as given
        self._last: float = 0  # newest time, as returned
        self._shift: float = 0  # from given to returned times
        self._left: tuple[float, float] | None = None  # `_own` and `_shift` before the newest step
        self._held = False

    @property
    def period(self) -> float:
        """Median of the newest steps between frames."""
        return median_low(self._seen) if self._seen else self._first_period

    def begin(self, own: float, *, at: float) -> float:
        """Starts a line at a time that is known to be right; returns it."""
        self._own, self._last, self._shift = own, at, at - own
        self._left, self._held = None, False
        return at

    def place(self, own: float, *, later: float | None = None, most: float = math.inf) -> float:
        """Returns the time of the next frame on the line.

        Args:
            own: Time of the frame by its own clock.
            later: Least time of the frames after it, see `looking_ahead`; None if unknown.
            most: Longest possible step forwards.
        """
        own, later = self._unwrapped(own), None if later is None else self._unwrapped(later)
        step, period = own - self._own, self.period
        if later is not None and self._own < later and not self._own < own <= later:
            self.outliers += abs(step) > _SWAPPED * period
            self._last += max(self._smallest, min(period, (later - self._own) / 2))
            return self._last
        if -period <= step <= 0 and not self._held:  # noise
            self._held = True
            self._last += self._smallest
            return self._last
        if self._left is not None and self._goes_back(own, most):
            self._shift = self._left[1]
            self._left = None
            self.steps -= 1
            self.outliers += 1
        elif 0 < step <= most:
            self._left = None
            self._seen.append(step)
        else:
            self._left = self._own, self._shift
            self._shift = self._last + period - own
            self.steps += 1
        self._own, self._held = own, False
        self._last = max(own + self._shift, self._last + self._smallest)
        return self._last

    def _unwrapped(self, own: float) -> float:
        """The same moment within half a wrap of the newest time.

        FFmpeg takes every step back by more than a minute for a wrap, and adds one.
        """
        if self._wrap is None:
            return own
        half = self._wrap // 2
        return self._own + (own - self._own + half) % self._wrap - half

    def _goes_back(self, own: float, most: float) -> bool:
        """True if a time continues the line before the newest step better than the one after."""
        assert self._left is not None
        period, before = self.period, self._left[0]
        nearer = abs(own - before - 2 * period) < abs(own - self._own - period)
        return nearer and 0 < own - before <= most + period


def looking_ahead(
    items: Iterable[Item], time_of: Callable[[Item], float]
) -> Iterator[tuple[Item, float | None]]:
    """Yields items with the least time of the next few, None for the last one."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > _LOOK_AHEAD:
            oldest = waiting.popleft()
            yield oldest, min(map(time_of, waiting))
    while waiting:
        oldest = waiting.popleft()
        yield oldest, min(map(time_of, waiting), default=None)
