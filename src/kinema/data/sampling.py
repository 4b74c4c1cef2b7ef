"""Sampling of the frames of a clip.

Letters: n frames of the video, T frames of a clip, N clips.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kinema.errors import OptionError, check_range
from kinema.values import ClipPlaces, Preprocessing, Views

Indices = NDArray[np.int64]


class Sampling(Protocol):
    """Sampling rule: frame numbers of a clip from the number of frames of its video."""

    def train(self, total: int, rng: np.random.Generator) -> Indices:
        """Frame numbers (T,) of a random clip of a video with `total` frames."""

    def test(self, total: int, clips: int) -> Indices:
        """Frame numbers (N, T) of the N = `clips` fixed clips of a test."""


@dataclass(frozen=True)
class SegmentSampling:
    """A frame from each of T equal segments of a video (TSN, Wang et al., ECCV 2016, section 3.1).

    Training draws a random frame of each segment, a test takes the middle one. The papers do not
    define several clips under this rule: here clip c of N takes the frame at (c + 0.5) / N of
    each segment, so that one clip is the middle and several clips interleave evenly. With the
    places "twice", as in TSM's code, the first of two clips takes the middle frames and the
    second the first frames; with "uniform", as in TANet's code, several clips spread from the
    first frames to the last ones. Segments have the real length n/T, so the last frames are
    reachable. A video with fewer frames than segments repeats frames in order.
    """

    frames: int
    places: ClipPlaces = "even"

    def train(self, total: int, rng: np.random.Generator) -> Indices:
        """See `Sampling.train`."""
        return self._from(rng.random(self.frames) * self._tick(total), total)

    def test(self, total: int, clips: int) -> Indices:
        """See `Sampling.test`."""
        tick = self._tick(total)
        if self.places == "uniform":
            assert clips > 1, "checked by Views"
            starts = np.floor(np.linspace(0, max(tick - 1, 0), clips))
        elif self.places == "twice":
            assert clips == 2, "checked by Views"
            starts = np.array([0.5, 0.0]) * tick
        else:
            starts = (np.arange(clips) + 0.5) / clips * tick
        return np.stack([self._from(start, total) for start in starts])

    def _from(self, starts: np.float64 | NDArray[np.float64], total: int) -> Indices:
        """Frames at these positions in the segments."""
        # Sums of products, as in TSM's code, so that ties are rounded alike.
        positions = starts + np.arange(self.frames) * self._tick(total)
        return np.minimum(positions.astype(np.int64), total - 1)

    def _tick(self, total: int) -> float:
        """Length of a segment in frames."""
        check_range(at_least=1, total=total)
        # A real number: with the integer length total // T, as in TSN's code, up to T - 1 frames
        # at the end of the video would never be drawn.
        return total / self.frames


@dataclass(frozen=True)
class DenseSampling:
    """T evenly spaced frames from a window of consecutive frames (Kinetics; 64 in the papers).

    The stride is `window_frames // T`. Training draws the start of the window; a test spreads N
    windows evenly from the beginning to the end of the video, and centers a single one. A video
    shorter than the window wraps around, as in the authors' code.
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
        return self._from(int(rng.integers(self._last_start(total) + 1)), total)

    def test(self, total: int, clips: int) -> Indices:
        """See `Sampling.test`."""
        last = self._last_start(total)
        starts = np.linspace(0, last, clips) if clips > 1 else np.array([last / 2])
        return np.stack([self._from(int(start), total) for start in starts])

    @property
    def _stride(self) -> int:
        return self.window_frames // self.frames

    def _last_start(self, total: int) -> int:
        check_range(at_least=1, total=total)
        return max(0, total - self.window_frames)

    def _from(self, start: int, total: int) -> Indices:
        # The modulo restarts a video that is shorter than the window.
        return (start + self._stride * np.arange(self.frames, dtype=np.int64)) % total


class IntervalSampling(DenseSampling):
    """`DenseSampling` with test clips that reach the last frame, as SampleFrames of mmaction2.

    A test spreads the N clips so that the first one begins with the first frame and the last one
    ends with the last frame, to the nearest frame; half frames go to the even one.
    """

    def test(self, total: int, clips: int) -> Indices:
        """See `Sampling.test`."""
        check_range(at_least=1, total=total)
        last = max(0, total - (self.frames - 1) * self._stride - 1)
        starts = np.round(np.arange(clips) * (last / (clips - 1))) if clips > 1 else [last // 2]
        return np.stack([self._from(int(start), total) for start in starts])


class ShuffledSegmentSampling(SegmentSampling):
    """The frames of `SegmentSampling` in random order, a control for the use of order.

    If a network is as accurate with it, it does not use the order of frames or the data set does
    not need it. Training draws an order per clip; in a test it depends only on the number of
    frames and the clip, so that tests are repeatable.
    """

    def train(self, total: int, rng: np.random.Generator) -> Indices:
        """See `Sampling.train`."""
        return rng.permutation(super().train(total, rng))

    def test(self, total: int, clips: int) -> Indices:
        """See `Sampling.test`."""
        rngs = (np.random.default_rng((total, clip)) for clip in range(clips))
        ordered = super().test(total, clips)
        return np.stack([rng.permutation(row) for rng, row in zip(rngs, ordered, strict=True)])


@dataclass(frozen=True)
class SnippetSampling:
    """Snippets of neighboring frames at the places of another rule (TDN, arXiv 2012.10071).

    The other rule places the first frames of the snippets, in a video without the last S - 1
    frames, as in TDN's code. A video shorter than a snippet repeats its last frame. Unlike in that
    code, videos of at most T + S - 1 frames have different snippets, as far as there are any.

    Attributes:
        rule: Places T snippets.
        snippet: S, frames of a snippet.
    """

    rule: Sampling
    snippet: int

    def train(self, total: int, rng: np.random.Generator) -> Indices:
        """Frame numbers (T * S,) of a random clip; the frames of a snippet are adjacent."""
        return self._from(self.rule.train(self._places(total), rng), total)

    def test(self, total: int, clips: int) -> Indices:
        """Frame numbers (N, T * S) of the fixed clips of a test."""
        return self._from(self.rule.test(self._places(total), clips), total)

    def _places(self, total: int) -> int:
        check_range(at_least=1, total=total)
        return max(1, total - self.snippet + 1)

    def _from(self, firsts: Indices, total: int) -> Indices:
        frames: Indices = np.minimum(firsts[..., None] + np.arange(self.snippet), total - 1)
        return frames.reshape(*firsts.shape[:-1], -1)


def sampling_of(preprocessing: Preprocessing, views: Views | None = None) -> Sampling:
    """Returns the sampling rule of a preprocessing, for the views of a test.

    Raises:
        OptionError: `twice_sample` or `uniform_sample`, which are for segments, with windows.
    """
    rule = _rule_of(preprocessing, "even" if views is None else views.clip_places)
    return rule if preprocessing.snippet == 1 else SnippetSampling(rule, preprocessing.snippet)


def _rule_of(preprocessing: Preprocessing, places: ClipPlaces) -> Sampling:
    """The rule that places the T frames or snippets of a clip."""
    if preprocessing.has_window:
        if places != "even":
            raise OptionError(
                f"{places}_sample is for segments, but this network samples a dense window. Use "
                "clips without it."
            )
        windows = IntervalSampling if preprocessing.sampling == "interval" else DenseSampling
        return windows(preprocessing.frames, preprocessing.window_frames)
    if preprocessing.sampling == "shuffled_segments":
        return ShuffledSegmentSampling(preprocessing.frames, places)
    return SegmentSampling(preprocessing.frames, places)
