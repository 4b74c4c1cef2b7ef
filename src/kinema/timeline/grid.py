"""Grid of frames that the network uses, with their times; windows are ranges of the grid.

Recordings may pause for hours, and all windows inside of such a hole show one frame. They are one
window, from the start of the first to the end of the last: the grid leaves out whole hops.

Letters: F frames of the video, G frames of the grid, T frames of a window, M windows.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinema.errors import OptionError
from kinema.timeline.scoring import count_windows
from kinema.values import Preprocessing
from kinema.video.decode import VideoFile

# Default window of networks trained on segments of whole videos: 64 frames at 25 Hz, rounded. The
# clips of Something-Something last 2 to 6 s.
WINDOW_S = 2.5

# Frames per query of times, to keep memory small.
_TIMES_AT_ONCE = 1000

# A frame shown this long is a hole in the recording. Shorter ones repeat a few windows at most.
HOLE_S = 10.0

# Default limits. A frame of the grid takes 24 bytes, a window 4 for each class.
MOST_WINDOWS = 200_000
MOST_GRID_FRAMES = 10_000_000

# Cells up to this number have exact middles.
_MOST_CELLS = 2**50

# Tolerance for a frame that starts exactly in the middle of its part of a window.
_ROUNDING_S = 1e-6


class TooManyWindowsError(OptionError):
    """The windows are too many for the memory: too short for the length of the video."""


@dataclass(frozen=True)
class GridLimits:
    """Largest grid, in windows and in frames of the grid."""

    windows: int = MOST_WINDOWS
    frames: int = MOST_GRID_FRAMES

    def check(self, path: Path, *, windows: int, frames: int) -> None:
        """Raises TooManyWindowsError for a larger grid."""
        if windows > self.windows or frames > self.frames:
            raise TooManyWindowsError(
                f"{path} has {windows} windows of {frames} frames in all, more than the limits of "
                f"{self.windows} and {self.frames}. Choose longer windows or a longer stride."
            )


@dataclass(frozen=True)
class Grid:
    """Frames that the network uses, with times in seconds from the start of the file.

    Attributes:
        numbers_G: Frame numbers, ascending; repeated if the video has a low frame rate.
        starts_s: (G,) start of a window that begins with this frame of the grid.
        ends_s: (G,) end of a window that ends with it: the next frame's start, except in holes.
        shown_s: (F + 1,) presentation time of each frame of the video, and the end.
        hop: Grid frames from one window to the next.
    """

    numbers_G: NDArray[np.int64]
    starts_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    shown_s: NDArray[np.float64]
    hop: int

    def window_times(
        self, windows: int, count: int, frames: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Start and end times of the windows over the first `count` frames of the grid."""
        # The last window ends with the last frame, so it may overlap more than the others.
        places_M = np.minimum(np.arange(windows) * self.hop, max(0, count - frames))
        return self.starts_s[places_M], self.ends_s[np.minimum(places_M + frames, count) - 1]


def build_grid(
    source: VideoFile,
    preprocessing: Preprocessing,
    *,
    window_s: float | None,
    stride_s: float | None,
    limits: GridLimits | None = None,
) -> Grid:
    """Builds the grid from the presentation times.

    Dense windows keep the frame spacing of the training, as `DenseSampling` does. Windows of a
    given length use the frame shown in the middle of each of T equal parts, which at a constant
    frame rate are the frames of `SegmentSampling`.

    Args:
        source: The video.
        preprocessing: Preprocessing of the training.
        window_s: Window length; by default that of the training, or `WINDOW_S`.
        stride_s: Time between window starts; by default half a window.
        limits: Largest grid; checked before the grid takes memory.

    Raises:
        OptionError: the file has neither timestamps nor a frame rate.
        TooManyWindowsError: the grid is larger than the limits.
    """
    shown_s, frames, limits = _shown_times(source), preprocessing.frames, limits or GridLimits()
    duration_s = float(shown_s[-1])
    # Spacing of the grid: in frames for dense windows, in seconds for all others.
    step = preprocessing.window_frames // frames
    is_dense = preprocessing.has_window and window_s is None
    spacing_s = min(window_s or WINDOW_S, duration_s) / frames
    count = max(frames, round(duration_s / spacing_s))
    if is_dense:
        count = len(range(0, source.info.frames, step))
    hop = max(1, frames // 2 if stride_s is None else round(stride_s * count / duration_s))
    runs = None
    if not is_dense and count <= _MOST_CELLS:
        runs = _Runs.of(shown_s, spacing_s, count, hop=hop, frames=frames)
        count = int(runs.kept_F.sum())
    limits.check(source.path, windows=count_windows(count, frames, hop), frames=count)
    if runs is None:
        numbers_G = np.arange(0, source.info.frames, step)
        edges_s = np.append(shown_s[numbers_G], duration_s)
        starts_s, ends_s = edges_s[:-1], edges_s[1:]
    else:
        numbers_G, first_G, last_G = runs.cells(frames)
        starts_s = first_G * spacing_s
        ends_s = np.append((last_G[:-1] + 1) * spacing_s, duration_s)
    # Count from the start of the file, as players do, not from its first frame.
    lead_s = source.lead_s
    return Grid(numbers_G, starts_s + lead_s, ends_s + lead_s, shown_s + lead_s, hop)


@dataclass(frozen=True)
class _Runs:
    """Runs of equal cells, one for each frame of the video.

    Attributes:
        first_F: (F,) first cell of the frame.
        kept_F: (F,) number of its cells on the grid.
        cut_F: (F,) number of its cells that are left out, a multiple of the hop.
        window_F: (F,) place in the run at which its first whole window begins.
    """

    first_F: NDArray[np.int64]
    kept_F: NDArray[np.int64]
    cut_F: NDArray[np.int64]
    window_F: NDArray[np.int64]

    @classmethod
    def of(
        cls, shown_s: NDArray[np.float64], spacing_s: float, count: int, *, hop: int, frames: int
    ) -> "_Runs":
        """Assigns `count` cells to the frames shown in their middles, and cuts out holes."""
        # The formula may round to a neighbor of the first cell; the comparison is exact.
        first_F = np.ceil((shown_s[:-1] - _ROUNDING_S) / spacing_s - 1.5).astype(np.int64)
        first_F = np.maximum(first_F, 0)
        for _ in range(2):
            first_F += (first_F + 0.5) * spacing_s + _ROUNDING_S < shown_s[:-1]
        first_F = np.minimum(first_F, count)
        cells_F = np.diff(first_F, append=count)
        window_F = -first_F % hop
        cut_F = np.maximum(0, (cells_F - window_F - frames) // hop * hop)
        cut_F[np.diff(shown_s) < HOLE_S] = 0
        return cls(first_F, cells_F - cut_F, cut_F, window_F)

    def cells(self, frames: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(G,) frame numbers, and the cells in which windows from and up to there start and end."""
        numbers_G = np.repeat(np.arange(len(self.kept_F)), self.kept_F)
        place_G = np.arange(len(numbers_G)) - (np.cumsum(self.kept_F) - self.kept_F)[numbers_G]
        cell_G, cut_G = self.first_F[numbers_G] + place_G, self.cut_F[numbers_G]
        window_G = self.window_F[numbers_G]
        # The one window that is left of a hole begins before the cut and ends after it.
        starts_G = cell_G + np.where(place_G > window_G, cut_G, 0)
        ends_G = cell_G + np.where(place_G >= window_G + frames - 1, cut_G, 0)
        return numbers_G, starts_G, ends_G


def _shown_times(source: VideoFile) -> NDArray[np.float64]:
    """(F + 1,) presentation time of each frame in seconds, and the end of the last one.

    Raises:
        OptionError: the file has neither timestamps nor a frame rate.
    """
    total = source.info.frames
    blocks = (
        source.times_s(range(first, min(first + _TIMES_AT_ONCE, total)))
        for first in range(0, total, _TIMES_AT_ONCE)
    )
    shown_s = np.full(total + 1, source.info.duration_s)
    shown_s[:total] = np.fromiter(chain.from_iterable(blocks), np.float64, total)
    if not shown_s[total]:
        raise OptionError(f"{source.path} has neither timestamps nor a frame rate.")
    return shown_s
