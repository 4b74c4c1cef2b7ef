"""Timeline of a long video: sliding windows scored in one pass, then segments.

The steps, one module each: `grid` chooses frames, spaced as in training; `reading` decodes them
once and in order; `scoring` runs the network on windows of T consecutive grid frames, which
overlap and share frames; `segments` finds the actions. Memory does not grow with the video: it
holds the resized frames of one window, of one batch, and those prefetched.

Letters: M windows, K classes.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinema.errors import OptionError, UnreadableVideoError, check_range
from kinema.inference.predict import ClipRecognizer, check_finite
from kinema.notebook import bar, html_table, percent
from kinema.timeline.grid import Grid, build_grid
from kinema.timeline.reading import GridFrames, SmallFrames, prefetch
from kinema.timeline.scoring import count_windows, score_windows
from kinema.timeline.segments import Segment, SegmentRule, find_segments
from kinema.values import ClassProb, Preprocessing
from kinema.video.decode import VideoFile


@dataclass(frozen=True)
class TimelineSettings:
    """Length, stride and computation of windows.

    Attributes:
        window_s: Window length. By default that of the training for networks trained on dense
            windows, and 2.5 s for those trained on segments of whole videos.
        stride_s: Time between window starts, rounded to the frame spacing; half a window by
            default.
        stream: Runs a causal network frame by frame over the whole video, with its memory. The
            scores of a window are the mean over its frames.
        batch: Windows per forward pass; the last batch is padded.
        chunk: Windows to decode ahead of the network; does not change the scores.
    """

    window_s: float | None = None
    stride_s: float | None = None
    stream: bool = False
    batch: int = 4
    chunk: int = 16

    def __post_init__(self) -> None:
        check_range(above=0, window_s=self.window_s, stride_s=self.stride_s)
        check_range(at_least=1, batch=self.batch, chunk=self.chunk)


@dataclass(frozen=True)
class Timeline:
    """Window scores and segments of one video.

    Times are seconds from the start of the file, as in players and subtitles. If the audio starts
    before the video, the first window starts with the video.

    Attributes:
        path: The video.
        duration_s: End of the last frame.
        class_names: K names.
        window_s: Length of the first window; others may differ with a variable frame rate.
        stride_s: Time from the first window to the second; 0 for a single window.
        starts_s: (M,) start of each window.
        ends_s: (M,) end of each window.
        scores: (M, K) before softmax.
        segments: Segments in order of time.
        error: Reason and position at which reading a damaged video stopped; otherwise None.
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

    def _repr_html_(self) -> str:
        rows = [
            (
                f"{segment.start_s:.2f}",
                f"{segment.end_s:.2f}",
                segment.name,
                percent(segment.prob),
                bar(segment.start_s / self.duration_s, segment.end_s / self.duration_s),
            )
            for segment in self.segments
        ]
        stopped = f" {self.error}" if self.error else ""
        caption = f"{self.path}, {self.duration_s:.2f} s.{stopped}"
        return html_table(caption, ("start (s)", "end (s)", "class", "probability", ""), rows)

    def top(self, window: int, count: int = 5) -> tuple[ClassProb, ...]:
        """Returns the most probable classes of one window, best first."""
        probs_K = _softmax(self.scores[window])
        best = np.argsort(-probs_K, kind="stable")[:count]
        return tuple(ClassProb(int(k), self.class_names[k], float(probs_K[k])) for k in best)


Reading = Callable[
    [str | Path, Preprocessing, TimelineSettings], AbstractContextManager[tuple[Grid, SmallFrames]]
]


@contextmanager
def read_here(
    path: str | Path, preprocessing: Preprocessing, settings: TimelineSettings
) -> Iterator[tuple[Grid, SmallFrames]]:
    """Opens a video in this process and yields its grid and frames.

    Raises:
        UnreadableVideoError: the video cannot be read; the message says why.
        OptionError: it has neither timestamps nor a frame rate, or too many windows.
    """
    if Path(path).is_dir():
        raise OptionError(
            f"{path} is a folder: give one video file. (A folder of frames has no timestamps.)"
        )
    with VideoFile(path) as source:
        grid = build_grid(
            source, preprocessing, window_s=settings.window_s, stride_s=settings.stride_s
        )
        yield grid, GridFrames(source, grid, preprocessing)


def timeline(
    recognizer: ClipRecognizer,
    path: str | Path,
    settings: TimelineSettings | None = None,
    *,
    rule: SegmentRule | None = None,
    progress: Callable[[int, int], None] | None = None,
    reading: Reading = read_here,
) -> Timeline:
    """Recognizes the actions in a video of any length and their times.

    A window gets the scores that `Recognizer.predict` gives a video of that window alone. A video
    shorter than a window is one window, and so is a hole in which one frame is shown for 10 s or
    more. A damaged video is used up to the damage, and
    `Timeline.error` says where reading stopped.

    Args:
        recognizer: Network with its class names and preprocessing.
        path: A video file.
        settings: Length and stride of windows.
        rule: Smoothing and thresholds of segments.
        progress: Called with (windows done, total windows).
        reading: Opens the video; the service decodes in another process.

    Raises:
        UnreadableVideoError: no frame can be read; the message says why.
        CheckpointError: the network's scores are not finite.
        OptionError: an option is out of range, the network cannot run frame by frame, or the
            video has neither timestamps nor a frame rate, or too many windows.
        UnknownNameError: the network has no background class of this name.

    Example:
        `timeline(Recognizer.load("runs/first/best"), "long.mp4").segments[0].name`
    """
    settings, rule = settings or TimelineSettings(), rule or SegmentRule()
    rule.hysteresis(recognizer.labels)  # rejects unknown names before the long work
    preprocessing = recognizer.preprocessing
    with reading(path, preprocessing, settings) as (grid, frames):
        scores_MK = _all_scores(recognizer, frames, grid, settings, progress)
    check_finite(scores_MK, str(path))
    if not len(scores_MK):
        raise UnreadableVideoError(frames.error or f"{path} has no frames.")
    starts_s, ends_s = grid.window_times(len(scores_MK), frames.count, preprocessing.frames)
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
    """(M, K) scores of the windows up to the end of the video or to its damage."""
    length = recognizer.preprocessing.frames
    total = count_windows(len(grid.numbers_G), length, grid.hop)
    rows = np.empty((total, recognizer.net.classes), np.float32)
    done = 0
    # A stride of hours must not fill the memory with the frames between two windows.
    ahead = settings.chunk * min(grid.hop, length)
    with closing(prefetch(iter(frames), ahead)) as small:
        windows = score_windows(
            recognizer, small, grid.hop, stream=settings.stream, batch=settings.batch
        )
        for done, scores_K in enumerate(windows, 1):
            rows[done - 1] = scores_K.numpy()
            if progress is not None:
                progress(done, total)
    return rows if done == total else rows[:done].copy()


def _cells(starts_s: NDArray[np.float64], ends_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M + 1,) edges: windows overlap, and two neighbors share the time of both in halves."""
    return np.concatenate([starts_s[:1], (ends_s[:-1] + starts_s[1:]) / 2, ends_s[-1:]])


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis, in place in one new array."""
    probs: NDArray[np.float32] = scores - scores.max(-1, keepdims=True)
    np.exp(probs, out=probs)
    probs /= probs.sum(-1, keepdims=True)
    return probs
