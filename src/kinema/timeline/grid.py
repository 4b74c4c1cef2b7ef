"""The frames of a video that the network sees, and when: the grid on which windows lie.

Letters: F frames of the video, G frames of the grid, T frames of a window, M windows.
"""

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from kinema.errors import OptionError
from kinema.values import Preprocessing
from kinema.video.decode import VideoFile

# Of networks trained on segments of whole videos: 64 frames at 25 Hz, rounded; the clips of
# Something-Something last 2 to 6 s.
WINDOW_S = 2.5

# Frames whose times are asked for at once.
_TIMES_AT_ONCE = 1000

# A frame that begins exactly in the middle of its part of a window is the one that is shown there.
_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Grid:
    """The frames that the network sees, and when, in seconds from the beginning of the file.

    Attributes:
        numbers_G: Frame numbers, ascending; a slow video repeats some.
        edges_s: (G + 1,) borders of the times for which the frames stand.
        shown_s: (F + 1,) when each frame of the video is shown, and the end.
        hop: Places from window to window.
    """

    numbers_G: NDArray[np.int64]
    edges_s: NDArray[np.float64]
    shown_s: NDArray[np.float64]
    hop: int

    def window_times(
        self, windows: int, count: int, frames: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Starts and ends of the windows when `count` frames of the grid have been read."""
        places_M = np.minimum(np.arange(windows) * self.hop, max(0, count - frames))
        return self.edges_s[places_M], self.edges_s[np.minimum(places_M + frames, count)]


def lay_grid(
    source: VideoFile, how: Preprocessing, *, window_s: float | None, stride_s: float | None
) -> Grid:
    """Lays the grid by the times of the frames.

    Dense windows keep the training's count of frames from one to the next, as `DenseSampling`.
    Windows of a given length take the frame shown in the middle of each of T equal parts, which
    for a constant frame rate are the frames of `SegmentSampling`.

    Args:
        source: The video.
        how: What the network was trained on.
        window_s: Length of a window; the training's, or `WINDOW_S`, when not given.
        stride_s: From window to window; half a window when not given.

    Raises:
        OptionError: the file tells neither times nor a frame rate.
    """
    shown_s = _shown_times(source)
    duration_s = float(shown_s[-1])
    if how.sampling == "dense" and window_s is None:
        numbers_G = np.arange(0, source.info.frames, how.window_frames // how.frames)
        edges_s = np.append(shown_s[numbers_G], duration_s)
    else:
        spacing_s = min(window_s or WINDOW_S, duration_s) / how.frames
        count = max(how.frames, round(duration_s / spacing_s))
        edges_s = np.append(np.arange(count) * spacing_s, duration_s)
        middles_s = (np.arange(count) + 0.5) * spacing_s + _ROUNDING_S
        numbers_G = np.searchsorted(shown_s[:-1], middles_s, side="right") - 1
    hop = how.frames // 2
    if stride_s is not None:
        hop = round(stride_s * len(numbers_G) / duration_s)
    return Grid(numbers_G, edges_s + source.lead_s, shown_s + source.lead_s, max(1, hop))


def _shown_times(source: VideoFile) -> NDArray[np.float64]:
    """(F + 1,) seconds: when each frame is shown, then when the last one ends.

    Raises:
        OptionError: the file tells neither times nor a frame rate.
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
        raise OptionError(f"{source.path} tells neither the times of its frames nor their rate.")
    return np.maximum.accumulate(shown_s)
