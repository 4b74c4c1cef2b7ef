"""What happens when in a long video: windows scored in one pass, then steady segments.

A grid of frames, spaced as in the network's training, lies over the whole video. A window is T
neighbours of the grid, so windows that overlap share their frames. The video is decoded once and
in order; only small frames of the newest window, the batch that waits for the network and what is
decoded ahead are in memory.

Letters: F frames of the video, G frames of the grid, T frames of a window, M windows, B windows of
a batch, N frames of a batch, C channels, H, W, K classes.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, cycle, islice, pairwise, repeat
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.data.decode import VideoFile, open_source
from kinema.data.transforms import ViewTransform, normalise
from kinema.errors import OptionError, UnknownNameError, UnreadableVideoError, did_you_mean
from kinema.models.smoothing import NOTHING, Hysteresis
from kinema.predict import Recognizer
from kinema.types import ClassProb, Preprocessing, Views

# Of networks trained on segments of whole videos: 64 frames at 25 Hz, rounded; the clips of
# Something-Something last 2 to 6 s.
WINDOW_S = 2.5

# Frames whose times are asked for at once.
_TIMES_AT_ONCE = 1000

# A frame that begins exactly in the middle of its part of a window is the one that is shown there.
_ROUNDING_S = 1e-6

Run = Callable[[torch.Tensor], torch.Tensor]
Item = TypeVar("Item")


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
class SegmentRule:
    """When a class counts as happening.

    Attributes:
        smooth_windows: Windows of the centred mean of probabilities; odd, 1 is none.
        enter: Smoothed probability at which a segment begins.
        leave: Smoothed probability below which it ends; at most `enter`.
        background: Names of classes that mean that nothing happens.
        min_length_s: Shorter segments are left out.
    """

    smooth_windows: int = 3
    enter: float = 0.5
    leave: float = 0.3
    background: tuple[str, ...] = ()
    min_length_s: float = 0.0

    def __post_init__(self) -> None:
        if self.smooth_windows < 1 or self.smooth_windows % 2 == 0:
            raise OptionError(f"smooth_windows must be odd, got {self.smooth_windows}.")
        if not self.min_length_s >= 0:
            raise OptionError(f"min_length_s must not be negative, got {self.min_length_s}.")
        Hysteresis(self.enter, self.leave)

    def hysteresis(self, class_names: tuple[str, ...]) -> Hysteresis:
        """The rule for labels.

        Raises:
            UnknownNameError: a background class is none of the names.
        """
        for name in self.background:
            if name not in class_names:
                raise UnknownNameError(
                    f"Unknown background class {name!r}. " + did_you_mean(name, class_names)
                )
        labels = tuple(class_names.index(name) for name in self.background)
        return Hysteresis(self.enter, self.leave, background=labels)


@dataclass(frozen=True)
class Segment:
    """A stretch of the video in which one class happens; `prob` is its mean smoothed one."""

    start_s: float
    end_s: float
    label: int
    name: str
    prob: float


@dataclass(frozen=True)
class Timeline:
    """What happens when in one video.

    Times are seconds from the first frame.

    Attributes:
        path: The video.
        duration_s: From the first frame to the end of the last one, as the file tells.
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


def timeline(
    recogniser: Recognizer,
    path: str | Path,
    settings: TimelineSettings | None = None,
    *,
    rule: SegmentRule | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Timeline:
    """Finds out what happens when in a video of any length.

    A window is scored as `Recognizer.predict` would score a video of that window alone. A video
    shorter than a window is one window. Of a damaged video everything up to the damage is kept,
    and `Timeline.error` says where reading stopped.

    Args:
        recogniser: The network with its class names and preprocessing.
        path: A video file.
        settings: Windows and computing.
        rule: What makes segments of windows.
        progress: Called with (windows done, windows in all).

    Raises:
        UnreadableVideoError: no frame can be read; the message says why.
        OptionError: an option is outside its range, the network cannot work frame by frame, or
            the video tells no times.
        UnknownNameError: a background class is none of the network's.

    Example:
        `timeline(Recognizer.load("runs/first/best"), "long.mp4").segments[0].name`
    """
    settings, rule = settings or TimelineSettings(), rule or SegmentRule()
    rule.hysteresis(recogniser.labels)  # refuses wrong names before the long work
    how = recogniser.preprocessing
    with open_source(path) as source:
        if not isinstance(source, VideoFile):
            raise OptionError(f"{path} is a folder of frames, which tells no times: give a video.")
        grid = _grid(source, how, settings)
        reading = _Reading(source, grid, how)
        total = _windows(len(grid.numbers_G), how.frames, grid.hop)
        rows = np.empty((total, recogniser.net.classes), np.float32)
        done = 0
        with closing(_ahead(iter(reading), settings.chunk * grid.hop)) as frames:
            for done, scores_K in enumerate(_scored(recogniser, frames, grid.hop, settings), 1):
                rows[done - 1] = scores_K.numpy()
                if progress is not None:
                    progress(done, total)
    if not done:
        raise UnreadableVideoError(reading.error or f"{path} gives no frames.")
    starts_s, ends_s = grid.window_times(done, reading.count, how.frames)
    scores_MK = rows if done == total else rows[:done].copy()
    cells_s = _cells(starts_s, ends_s)
    return Timeline(
        path=str(path),
        duration_s=float(grid.shown_s[-1]),
        class_names=recogniser.labels,
        window_s=float(ends_s[0] - starts_s[0]),
        stride_s=float(starts_s[1] - starts_s[0]) if done > 1 else 0.0,
        starts_s=starts_s,
        ends_s=ends_s,
        scores=scores_MK,
        segments=find_segments(_softmax(scores_MK), cells_s, recogniser.labels, rule),
        error=reading.error,
    )


def find_segments(
    probs_MK: NDArray[np.float32],
    cells_s: NDArray[np.float64],
    class_names: tuple[str, ...],
    rule: SegmentRule,
) -> tuple[Segment, ...]:
    """The stretches in which one class happens.

    Args:
        probs_MK: Probabilities of each window, (M, K).
        cells_s: (M + 1,) borders of the times for which the windows speak.
        class_names: The K names.
        rule: When a class counts as happening.

    Raises:
        UnknownNameError: a background class is none of the names.
    """
    smooth_MK = smoothed(probs_MK, rule.smooth_windows)
    shown_M = _shown(smooth_MK, rule.hysteresis(class_names))
    changes = np.flatnonzero(np.diff(shown_M)) + 1
    segments = []
    for first, stop in pairwise([0, *changes.tolist(), len(shown_M)]):
        label, start_s, end_s = int(shown_M[first]), float(cells_s[first]), float(cells_s[stop])
        if label != NOTHING and end_s - start_s >= rule.min_length_s:
            prob = float(smooth_MK[first:stop, label].mean())
            segments.append(Segment(start_s, end_s, label, class_names[label], prob))
    return tuple(segments)


def smoothed(probs_MK: NDArray[np.float32], windows: int) -> NDArray[np.float32]:
    """The mean of each window and its neighbours, `windows` in all; fewer at both ends."""
    sums_MK, counts_M1 = probs_MK.copy(), np.ones((len(probs_MK), 1), np.float32)
    for shift in range(1, windows // 2 + 1):
        later, earlier = slice(shift, None), slice(None, -shift)
        sums_MK[later] += probs_MK[earlier]
        sums_MK[earlier] += probs_MK[later]
        counts_M1[later] += 1
        counts_M1[earlier] += 1
    return sums_MK / counts_M1


def _shown(smooth_MK: NDArray[np.float32], rule: Hysteresis) -> NDArray[np.int64]:
    """(M,) the label that is shown in each window, `NOTHING` for none."""
    state: tuple[torch.Tensor, ...] = ()
    shown_M = np.empty(len(smooth_MK), np.int64)
    for window, probs_K in enumerate(torch.from_numpy(smooth_MK)):
        label_B, state = rule.advance(probs_K.unsqueeze(0), state)
        shown_M[window] = int(label_B)
    return shown_M


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


@dataclass(frozen=True)
class _Grid:
    """The frames that the network sees, and when.

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


def _grid(source: VideoFile, how: Preprocessing, settings: TimelineSettings) -> _Grid:
    """Lays the grid by the times of the frames.

    Dense windows keep the training's count of frames from one to the next, as `DenseSampling`.
    Windows of a given length take the frame shown in the middle of each of T equal parts, which
    for a constant frame rate are the frames of `SegmentSampling`.
    """
    shown_s = _shown_times(source)
    duration_s = float(shown_s[-1])
    if how.sampling == "dense" and settings.window_s is None:
        numbers_G = np.arange(0, source.info.frames, how.window_frames // how.frames)
        edges_s = np.append(shown_s[numbers_G], duration_s)
    else:
        spacing_s = min(settings.window_s or WINDOW_S, duration_s) / how.frames
        count = max(how.frames, round(duration_s / spacing_s))
        edges_s = np.append(np.arange(count) * spacing_s, duration_s)
        middles_s = (np.arange(count) + 0.5) * spacing_s + _ROUNDING_S
        numbers_G = np.searchsorted(shown_s[:-1], middles_s, side="right") - 1
    hop = how.frames // 2
    if settings.stride_s is not None:
        hop = round(settings.stride_s * len(numbers_G) / duration_s)
    return _Grid(numbers_G, edges_s, shown_s, max(1, hop))


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


class _Reading:
    """The frames of the grid in order, resized and cropped; ends where the video is damaged.

    Attributes:
        count: Frames of the grid that have been read.
        error: Where reading stopped and why; None if it did not.
    """

    def __init__(self, source: VideoFile, grid: _Grid, how: Preprocessing) -> None:
        self.count = 0
        self.error: str | None = None
        self._source = source
        self._grid = grid
        self._transform = ViewTransform(how, Views())

    def __iter__(self) -> Iterator[torch.Tensor]:
        """(3, H, W) uint8 RGB each."""
        read, numbers_G = 0, self._grid.numbers_G
        try:
            for number, picture in enumerate(self._source.in_order()):
                read = number + 1
                times = int(np.searchsorted(numbers_G, number, side="right")) - self.count
                if times > 0:
                    self.count += times
                    yield from repeat(self._small(picture), times)
        except UnreadableVideoError as error:
            stopped_s, end_s = self._grid.shown_s[read], self._grid.shown_s[-1]
            self.error = f"{error} Reading stopped at {stopped_s:.2f} s of {end_s:.2f} s."

    def _small(self, picture: NDArray[np.uint8]) -> torch.Tensor:
        frame_CHW = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
        small_CHW: torch.Tensor = self._transform(frame_CHW.unsqueeze(0))[0, 0]
        return small_CHW


def _ahead(items: Iterator[Item], most: int) -> Generator[Item, None, None]:
    """The same items; up to `most` of them are made ahead, in another thread."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
    nothing = object()
    waiting: deque[Future[Item | object]] = deque()
    try:
        waiting.extend(pool.submit(next, items, nothing) for _ in range(most))
        while (item := waiting.popleft().result()) is not nothing:
            waiting.append(pool.submit(next, items, nothing))
            yield item  # type: ignore[misc]  # mypy cannot tell the sentinel from an item
    finally:
        pool.shutdown(cancel_futures=True)


def _windows(count: int, frames: int, hop: int) -> int:
    """How many runs `_runs` makes."""
    return 1 + max(0, -((frames - count) // hop))


def _runs(items: Iterable[Item], length: int, hop: int) -> Iterator[list[Item]]:
    """Every `hop`th run of `length` neighbours; the last one ends at the end.

    Fewer items than `length` begin again, as in `DenseSampling`.
    """
    newest: deque[Item] = deque(maxlen=length)
    count = covered = 0
    for count, item in enumerate(items, 1):
        newest.append(item)
        if count >= length and (count - length) % hop == 0:
            covered = count
            yield list(newest)
    if covered < count:
        yield list(islice(cycle(newest), length))


def _scored(
    recogniser: Recognizer, frames: Iterator[torch.Tensor], hop: int, settings: TimelineSettings
) -> Iterator[torch.Tensor]:
    """The scores (K,) of each window.

    Where a frame's scores do not need the other frames of its window, they are computed once.
    """
    length = recogniser.net.frames
    run = _frame_run(recogniser, stream=settings.stream)
    if run is not None:
        scores = _in_batches(run, recogniser, frames, settings.batch * length)
        return (torch.stack(window).mean(0) for window in _runs(scores, length, hop))
    clips = (torch.stack(window) for window in _runs(frames, length, hop))
    return _in_batches(recogniser.score, recogniser, clips, settings.batch)


def _frame_run(recogniser: Recognizer, *, stream: bool) -> Run | None:
    """What scores single frames (N, 3, H, W) -> (N, K), if the network can do that.

    A network that was made fast scores clips, and is taken as it is.

    Raises:
        OptionError: frame by frame is wanted, but the network looks ahead or was made fast.
    """
    net = recogniser.net
    if stream and recogniser.score is not net:
        raise OptionError("A network that was made fast scores clips: choose stream or fast.")
    if stream:
        step = net.streaming()
        return lambda frames_NCHW: step(frames_NCHW.unsqueeze(0))[0]
    alone = net.reach.receptive_field == 1 and net.facts.frame_stride == 1
    if alone and recogniser.score is net:
        return lambda frames_NCHW: net.frame_scores(frames_NCHW.unsqueeze(1))[:, 0]
    return None


def _in_batches(
    run: Run, recogniser: Recognizer, items: Iterator[torch.Tensor], size: int
) -> Iterator[torch.Tensor]:
    """The scores (K,) of each uint8 item.

    The last batch is filled up with zeros: kernels may round differently for another size.
    """
    how = recogniser.preprocessing
    while block := list(islice(items, size)):
        filling = [torch.zeros_like(block[0])] * (size - len(block))
        batch = torch.stack(block + filling).to(recogniser.device)
        with torch.inference_mode():
            scores = run(normalise(batch, how.mean, how.std)).float().cpu()
        yield from scores[: len(block)]
