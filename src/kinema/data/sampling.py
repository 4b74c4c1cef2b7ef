"""Which frames of a video make a clip.

Letters: n frames of the video, T frames of a clip, N clips.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kinema.errors import OptionError
from kinema.values import Preprocessing

Indices = NDArray[np.int64]


class Sampling(Protocol):
    """A rule that chooses frames."""

    @property
    def frames(self) -> int:
        """T."""

    def train(self, total: int, rng: np.random.Generator) -> Indices:
        """One random clip of a video with `total` frames: (T,) frame numbers."""

    def test(self, total: int, clips: int) -> Indices:
        """The `clips` fixed clips of a test: (N, T) frame numbers."""


@dataclass(frozen=True)
class SegmentSampling:
    """One frame from each of T equal segments of the whole video (TSN, Wang et al., ECCV 2016).

    Training draws a random frame of each segment, a test takes the middle one. The papers do not
    say how several clips are made with this rule: here clip c of N takes the frame at
    (c + 0.5) / N of each segment, so that one clip is the middle and more clips lie evenly
    between each other's frames. Segments have the real length n/T, so no frame at the end is out
    of reach. A video with fewer frames than segments repeats frames in their order.
    """

    frames: int

    def train(self, total: int, rng: np.random.Generator) -> Indices:
        """See `Sampling.train`."""
        _check_total(total)
        return self._at(total, rng.random(self.frames))

    def test(self, total: int, clips: int) -> Indices:
        """See `Sampling.test`."""
        _check_total(total)
        offsets = (np.arange(clips) + 0.5) / clips
        return np.stack([self._at(total, np.full(self.frames, offset)) for offset in offsets])

    def _at(self, total: int, offsets: NDArray[np.float64]) -> Indices:
        """The frames at these shares (0 to 1) of the segments."""
        positions = (np.arange(self.frames) + offsets) * (total / self.frames)
        return np.minimum(positions.astype(np.int64), total - 1)


@dataclass(frozen=True)
class DenseSampling:
    """T frames evenly from a window of consecutive frames (Kinetics; 64 frames in the papers).

    The stride is `window_frames // T`. Training draws the window's start; a test spreads N
    windows evenly from the beginning to the end of the video, and one window lies in the middle.
    A video shorter than the window starts again from its beginning, as in the authors' code.
    """

    frames: int
    window_frames: int = 64

    def __post_init__(self) -> None:
        if self.window_frames < self.frames:
            raise OptionError(
                f"window_frames ({self.window_frames}) must hold at least frames ({self.frames})."
            )

    def train(self, total: int, rng: np.random.Generator) -> Indices:
        """See `Sampling.train`."""
        _check_total(total)
        return self._from(int(rng.integers(self._last_start(total) + 1)), total)

    def test(self, total: int, clips: int) -> Indices:
        """See `Sampling.test`."""
        _check_total(total)
        last = self._last_start(total)
        starts = np.linspace(0, last, clips) if clips > 1 else np.array([last / 2])
        return np.stack([self._from(int(start), total) for start in starts])

    def _last_start(self, total: int) -> int:
        return max(0, total - self.window_frames)

    def _from(self, start: int, total: int) -> Indices:
        stride = self.window_frames // self.frames
        return (start + stride * np.arange(self.frames, dtype=np.int64)) % total


@dataclass(frozen=True)
class ShuffledSegmentSampling:
    """The frames of `SegmentSampling` in random order: a control, not a way to recognize well.

    A network that is as good with it as without does not use the order of frames, or the data set
    does not need it. Training draws an order for every clip; in a test it depends on the number of
    frames and the clip only, so that a repeated test has the same result.
    """

    frames: int

    def train(self, total: int, rng: np.random.Generator) -> Indices:
        """See `Sampling.train`."""
        return rng.permutation(SegmentSampling(self.frames).train(total, rng))

    def test(self, total: int, clips: int) -> Indices:
        """See `Sampling.test`."""
        ordered = SegmentSampling(self.frames).test(total, clips)
        return np.stack(
            [
                np.random.default_rng((total, clip)).permutation(row)
                for clip, row in enumerate(ordered)
            ]
        )


def sampling_of(preprocessing: Preprocessing) -> Sampling:
    """The rule that a preprocessing names."""
    if preprocessing.sampling == "dense":
        return DenseSampling(preprocessing.frames, preprocessing.window_frames)
    if preprocessing.sampling == "shuffled_segments":
        return ShuffledSegmentSampling(preprocessing.frames)
    return SegmentSampling(preprocessing.frames)


def _check_total(total: int) -> None:
    if total < 1:
        raise OptionError(f"A video must have at least one frame to sample from, got {total}.")
