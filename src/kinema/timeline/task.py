"""What happens when in a long video: windows scored in one pass, then steady segments.

A grid of frames, spaced as in the network's training, lies over the whole video. A window is T
neighbors of the grid, so windows that overlap share their frames. The video is decoded once and
in order; only small frames of the newest window, the batch that waits for the network and what is
decoded ahead are in memory.

Letters: M windows, K classes.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinema.errors import OptionError, UnreadableVideoError
from kinema.inference.predict import ClipRecognizer, check_finite
from kinema.timeline.grid import Grid, lay_grid
from kinema.timeline.reading import GridFrames, SmallFrames, ahead
from kinema.timeline.scoring import count_windows, scored
from kinema.timeline.segments import Segment, SegmentRule, find_segments
from kinema.values import ClassProb, Preprocessing
from kinema.video.decode import VideoFile


@dataclass(frozen=True)
class TimelineSettings:
    """Where windows lie and how they are computed.

    Attributes:
        window_s: Length of a window. When not given, that of the training for networks trained on
            dense windows, and 2.5 s for those trained on segments of whole videos.
        stride_s: From window to window, rounded to the spacing of the frames in a window; half a
            window when not given.
        stream: Whether frame by frame with the memory of a causal network: one pass in which each
            frame knows all that came before. A window's scores are the mean of its frames'.
        batch: Windows of one pass through the network. All passes have this size.
        chunk: Windows whose frames are decoded ahead of the network. The scores do not depend
            on it.
    """

    window_s: float | None = None
    stride_s: float | None = None
    stream: bool = False
    batch: int = 4
    chunk: int = 16

    def __post_init__(self) -> None:
        for name, value in (("window_s", self.window_s), ("stride_s", self.stride_s)):
            if value is not None and not 0 < value < float("inf"):
                raise OptionError(f"{name} must be above 0 seconds, got {value}.")
        for name, count in (("batch", self.batch), ("chunk", self.chunk)):
            if count < 1:
                raise OptionError(f"{name} must be at least 1, got {count}.")


@dataclass(frozen=True)
class Timeline:
    """What happens when in one video.

    Times are seconds from the beginning of the file, as players and subtitles count them. Where
    sound begins before the pictures, the first window begins with the pictures.

    Attributes:
        path: The video.
        duration_s: When the last frame ends, as the file tells.
        class_names: The K names.
        window_s: Length of a window; of the first one, if it varies with the frame rate.
        stride_s: From window to window, likewise; 0 for a single window.
        starts_s: (M,) when each window begins.
        ends_s: (M,) when each window ends.
        scores: (M, K) before softmax.
        segments: In order of time.
        error: Where reading stopped and why, when a part of the video is damaged; else None.
    """

    path: str
    duration_s: float
    class_names: tuple[str, ...]
    window_s: float
    stride_s: float
    starts_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    scores: NDArray[np.float32]
    segments: tuple[Segment, ...]
    error: str | None = None

    @property
    def probs(self) -> NDArray[np.float32]:
        """(M, K) after softmax."""
        return _softmax(self.scores)

    def top(self, window: int, count: int = 5) -> tuple[ClassProb, ...]:
        """The most probable classes of one window, best first."""
        probs_K = _softmax(self.scores[window])
        best = np.argsort(-probs_K, kind="stable")[:count]
        return tuple(ClassProb(int(k), self.class_names[k], float(probs_K[k])) for k in best)


Reading = Callable[
    [str | Path, Preprocessing, TimelineSettings], AbstractContextManager[tuple[Grid, SmallFrames]]
]


@contextmanager
def read_here(
    path: str | Path, how: Preprocessing, settings: TimelineSettings
) -> Iterator[tuple[Grid, SmallFrames]]:
    """The grid of a video and its frames, decoded in this process.

    Raises:
        UnreadableVideoError: the video cannot be read; the message says why.
        OptionError: it tells no times.
    """
    if Path(path).is_dir():
        raise OptionError(
            f"{path} is a folder: give one video file. (A folder of frames tells no times.)"
        )
    with VideoFile(path) as source:
        grid = lay_grid(source, how, window_s=settings.window_s, stride_s=settings.stride_s)
        yield grid, GridFrames(source, grid, how)


def timeline(
    recognizer: ClipRecognizer,
    path: str | Path,
    settings: TimelineSettings | None = None,
    *,
    rule: SegmentRule | None = None,
    progress: Callable[[int, int], None] | None = None,
    reading: Reading = read_here,
) -> Timeline:
    """Finds out what happens when in a video of any length.

    A window is scored as `Recognizer.predict` would score a video of that window alone. A video
    shorter than a window is one window. Of a damaged video everything up to the damage is kept,
    and `Timeline.error` says where reading stopped.

    Args:
        recognizer: The network with its class names and preprocessing.
        path: A video file.
        settings: Windows and computing.
        rule: What makes segments of windows.
        progress: Called with (windows done, windows in all).
        reading: Where the video is decoded; a service does it in another process.

    Raises:
        UnreadableVideoError: no frame can be read; the message says why.
        CheckpointError: the network's scores are not finite.
        OptionError: an option is outside its range, the network cannot work frame by frame, or
            the video tells no times.
        UnknownNameError: a background class is none of the network's.

    Example:
        `timeline(Recognizer.load("runs/first/best"), "long.mp4").segments[0].name`
    """
    settings, rule = settings or TimelineSettings(), rule or SegmentRule()
    rule.hysteresis(recognizer.labels)  # refuses wrong names before the long work
    how = recognizer.preprocessing
    with reading(path, how, settings) as (grid, frames):
        scores_MK = _all_scores(recognizer, frames, grid, settings, progress)
    check_finite(scores_MK, str(path))
    if not len(scores_MK):
        raise UnreadableVideoError(frames.error or f"{path} gives no frames.")
    starts_s, ends_s = grid.window_times(len(scores_MK), frames.count, how.frames)
    cells_s = _cells(starts_s, ends_s)
    return Timeline(
        path=str(path),
        duration_s=float(grid.shown_s[-1]),
        class_names=recognizer.labels,
        window_s=float(ends_s[0] - starts_s[0]),
        stride_s=float(starts_s[1] - starts_s[0]) if len(starts_s) > 1 else 0.0,
        starts_s=starts_s,
        ends_s=ends_s,
        scores=scores_MK,
        segments=find_segments(_softmax(scores_MK), cells_s, recognizer.labels, rule),
        error=frames.error,
    )


def _all_scores(
    recognizer: ClipRecognizer,
    frames: SmallFrames,
    grid: Grid,
    settings: TimelineSettings,
    progress: Callable[[int, int], None] | None,
) -> NDArray[np.float32]:
    """(M, K) of the windows up to the end of the video or its damage."""
    total = count_windows(len(grid.numbers_G), recognizer.preprocessing.frames, grid.hop)
    rows = np.empty((total, recognizer.net.classes), np.float32)
    done = 0
    with closing(ahead(iter(frames), settings.chunk * grid.hop)) as small:
        windows = scored(recognizer, small, grid.hop, stream=settings.stream, batch=settings.batch)
        for done, scores_K in enumerate(windows, 1):
            rows[done - 1] = scores_K.numpy()
            if progress is not None:
                progress(done, total)
    return rows if done == total else rows[:done].copy()


def _cells(starts_s: NDArray[np.float64], ends_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M + 1,): windows overlap, so each speaks for the times nearest to its middle."""
    middles_s = (starts_s + ends_s) / 2
    return np.concatenate([starts_s[:1], (middles_s[1:] + middles_s[:-1]) / 2, ends_s[-1:]])


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the last axis."""
    probs: NDArray[np.float32] = scores - scores.max(-1, keepdims=True)
    np.exp(probs, out=probs)
    probs /= probs.sum(-1, keepdims=True)
    return probs
