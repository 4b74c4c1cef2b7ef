"""Grid of frames that the network uses, with their times; windows are ranges of the grid.

Letters: F frames of the video, G frames of the grid, T frames of a window, M windows.
"""

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from kinema.errors import OptionError
from kinema.values import Preprocessing
from kinema.video.decode import VideoFile

# Default window of networks trained on segments of whole videos: 64 frames at 25 Hz, rounded. The
# clips of Something-Something last 2 to 6 s.
WINDOW_S = 2.5

# Frames per query of times, to keep memory small.
_TIMES_AT_ONCE = 1000

# Tolerance for a frame that starts exactly in the middle of its part of a window.
_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Grid:
    """Frames that the network uses, with times in seconds from the start of the file.

    Attributes:
        numbers_G: Frame numbers, ascending; repeated if the video has a low frame rate.
        edges_s: (G + 1,) edges of the time intervals that the frames represent.
        shown_s: (F + 1,) presentation time of each frame of the video, and the end.
        hop: Grid frames from one window to the next.
    """

    numbers_G: NDArray[np.int64]
    edges_s: NDArray[np.float64]
    shown_s: NDArray[np.float64]
    hop: int

    def window_times(
        self, windows: int, count: int, frames: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Start and end times of the windows over the first `count` frames of the grid."""
        # The last window ends with the last frame, so it may overlap more than the others.
        places_M = np.minimum(np.arange(windows) * self.hop, max(0, count - frames))
        return self.edges_s[places_M], self.edges_s[np.minimum(places_M + frames, count)]


def build_grid(
    source: VideoFile,
    preprocessing: Preprocessing,
    *,
    window_s: float | None,
    stride_s: float | None,
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

    Raises:
        OptionError: the file has neither timestamps nor a frame rate.
    """
    shown_s = _shown_times(source)
    duration_s = float(shown_s[-1])
    # Spacing of the grid: in frames for dense windows, in seconds for all others.
    if preprocessing.sampling == "dense" and window_s is None:
        numbers_G = np.arange(
            0, source.info.frames, preprocessing.window_frames // preprocessing.frames
        )
        edges_s = np.append(shown_s[numbers_G], duration_s)
    else:
        spacing_s = min(window_s or WINDOW_S, duration_s) / preprocessing.frames
        count = max(preprocessing.frames, round(duration_s / spacing_s))
        edges_s = np.append(np.arange(count) * spacing_s, duration_s)
        middles_s = (np.arange(count) + 0.5) * spacing_s + _ROUNDING_S
        numbers_G = np.searchsorted(shown_s[:-1], middles_s, side="right") - 1
    hop = preprocessing.frames // 2
    if stride_s is not None:
        hop = round(stride_s * len(numbers_G) / duration_s)
    # Count from the start of the file, as players do, not from its first frame.
    return Grid(numbers_G, edges_s + source.lead_s, shown_s + source.lead_s, max(1, hop))


def _shown_times(source: VideoFile) -> NDArray[np.float64]:
    """(F + 1,) presentation time of each frame in seconds, and the end of the last one.

    Raises:
        OptionError: the file has neither timestamps nor a frame rate.
    """
    total, rate = source.info.frames, source.info.rate_hz
    blocks = (
        source.times_s(range(first, min(first + _TIMES_AT_ONCE, total)))
        for first in range(0, total, _TIMES_AT_ONCE)
    )
    shown_s = np.zeros(total + 1)
    shown_s[:total] = np.fromiter(chain.from_iterable(blocks), np.float64, total)
    shown_s[total] = shown_s[:total].max() + (1 / rate if rate else 0.0)
    if not shown_s[total]:
        raise OptionError(f"{source.path} has neither timestamps nor a frame rate.")
    return np.maximum.accumulate(shown_s)
