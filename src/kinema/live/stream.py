"""Live recognition: what happens in a stream, frame by frame.

Letters: K classes, H, W.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.data.transforms import ViewTransform, normalize
from kinema.errors import OptionError, did_you_mean
from kinema.inference.optimize_stream import optimize_stream
from kinema.inference.predict import ClipRecognizer, check_finite
from kinema.inference.runtime import Step
from kinema.live.frame_queue import DropName, FrameQueue
from kinema.live.live_source import LiveFrame, LiveSource
from kinema.live.smoothing import NOTHING, Hysteresis, Smoothing, WindowMean
from kinema.live.sources import open_live
from kinema.system.closing import Closing
from kinema.temporal.memory import State
from kinema.values import ClassProb, Preprocessing, Views

# The latencies of so many newest frames make the summary: a stream may run for months.
LATENCIES = 10_000

Pace = Literal["source", "full"]
OnReconnect = Literal["restart", "continue"]
_NAMES = {"pace": get_args(Pace), "drop": get_args(DropName), "on_reconnect": get_args(OnReconnect)}


@dataclass(frozen=True)
class StreamSettings:
    """How a stream is recognized.

    Attributes:
        every: The network gets every so many-th frame; None takes the spacing of the training,
            where the checkpoint tells it (dense sampling), else every frame.
        rate_hz: The network gets so many frames per second instead.
        smoothing: Mean of the probabilities over the frames so far.
        hysteresis: Which class is shown.
        top: Classes to name for each frame.
        pace: "source" takes the frames when their time comes, "full" as fast as the network is;
            None is "source" for what is live and "full" for everything else.
        drop: Which frames give way when the network is slower than the source, see `FrameQueue`;
            None is "oldest" at the source's pace and "never" at full speed.
        on_reconnect: Whether the network's memory and the shown class "restart" or "continue"
            after a lost source was found again.
        limit_frames: Ends after so many results.
        limit_s: Ends at the first frame that is so many seconds after the first.
    """

    every: int | None = None
    rate_hz: float | None = None
    smoothing: Smoothing = field(default_factory=lambda: WindowMean(8))
    hysteresis: Hysteresis = field(default_factory=lambda: Hysteresis(enter=0.6, leave=0.4))
    top: int = 3
    pace: Pace | None = None
    drop: DropName | None = None
    on_reconnect: OnReconnect = "restart"
    limit_frames: int | None = None
    limit_s: float | None = None

    def __post_init__(self) -> None:
        if self.every is not None and self.rate_hz is not None:
            raise OptionError("Choose frames by every or by rate_hz, not by both.")
        for name in ("every", "rate_hz", "top", "limit_frames", "limit_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise OptionError(f"{name} must be above 0 and finite, got {value}.")
        for name, known in _NAMES.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise OptionError(f"Unknown {name} {value!r}. " + did_you_mean(value, known))
        if self.pace == "full" and self.drop not in (None, "never"):
            raise _nothing_drops(self.drop)


def _nothing_drops(drop: str) -> OptionError:
    return OptionError(f"At full speed no frame is dropped, so drop={drop!r} needs pace='source'.")


@dataclass(frozen=True)
class FrameResult:
    """What happens at one frame.

    Attributes:
        frame: The number of the frame in its source.
        time_s: Its time since the first frame.
        top: The most probable classes, best first, with smoothed probabilities.
        shown: The class to show; None when nothing clear happens.
        changed: Whether another class, or none, was shown before this frame.
        latency_ms: From the decoded frame to this result.
        scores: (K,) of this frame alone, before softmax and smoothing.
        picture: (H, W, 3) uint8 RGB, the whole frame.
    """

    frame: int
    time_s: float
    top: tuple[ClassProb, ...]
    shown: ClassProb | None
    changed: bool
    latency_ms: float
    scores: NDArray[np.float32]
    picture: NDArray[np.uint8]


@dataclass(frozen=True)
class StreamSummary:
    """A stream in numbers.

    Attributes:
        frames: Results.
        dropped: Wanted frames that the network was too slow for.
        seconds: From the first asking for a frame to the last result.
        latency_p50_ms: Of the newest `LATENCIES` results; likewise the 99th percentile.
        latency_p99_ms: See `latency_p50_ms`.
        reconnects: How often the source was lost and found again.
    """

    frames: int
    dropped: int
    seconds: float
    latency_p50_ms: float
    latency_p99_ms: float
    reconnects: int

    def __str__(self) -> str:
        rate = self.frames / self.seconds if self.seconds else 0.0
        return (
            f"{self.frames} frames in {self.seconds:.1f} s ({rate:.1f} per second), "
            f"{self.dropped} dropped, latency p50 {self.latency_p50_ms:.1f} ms, "
            f"p99 {self.latency_p99_ms:.1f} ms, {self.reconnects} reconnects"
        )


class FrameRecognizer:
    """One stream of pictures through a network, with smoothing and hysteresis; knows no source.

    Args:
        recognizer: The network, causal, with its labels and preprocessing.
        settings: See `StreamSettings`.
        fast: Runs the fastest form on this machine; see `kinema.inference.optimize_stream`.
        step: What `streaming_form` made before; several streams may share it, as the past of this
            one is kept here.

    Raises:
        OptionError: the network looks ahead, or the settings do not fit its classes.
    """

    def __init__(
        self,
        recognizer: ClipRecognizer,
        settings: StreamSettings,
        *,
        fast: bool = False,
        step: Step | None = None,
    ) -> None:
        for label in settings.hysteresis.background:
            if not 0 <= label < recognizer.net.classes:
                raise OptionError(f"There is no class {label} to take for background.")
        self._recognizer = recognizer
        self._settings = settings
        self._step = step or streaming_form(recognizer, fast=fast)
        self._network_state: State = ()
        self._transform = ViewTransform(recognizer.preprocessing, Views())
        self._smoothing_state: State = ()
        self._shown_state: State = ()
        self._shown = NOTHING

    def restart(self) -> None:
        """Forgets the past of the stream."""
        self._network_state = self._smoothing_state = self._shown_state = ()

    @torch.inference_mode()
    def __call__(self, frame: LiveFrame, *, decoded_at_s: float) -> FrameResult:
        """Takes in the next frame.

        Args:
            frame: The frame.
            decoded_at_s: The moment (`time.perf_counter`) from which the latency counts.
        """
        scores_1K = self._scores(frame.picture)
        check_finite(scores_1K.numpy(), f"frame {frame.number}")
        probs_1K, self._smoothing_state = self._settings.smoothing.advance(
            scores_1K.softmax(1), self._smoothing_state
        )
        shown_1, self._shown_state = self._settings.hysteresis.advance(probs_1K, self._shown_state)
        before, self._shown = self._shown, int(shown_1)
        probs_K = probs_1K[0].tolist()
        best = sorted(range(len(probs_K)), key=lambda label: -probs_K[label])[: self._settings.top]
        return FrameResult(
            frame=frame.number,
            time_s=frame.time_s,
            top=tuple(self._named(label, probs_K) for label in best),
            shown=None if self._shown == NOTHING else self._named(self._shown, probs_K),
            changed=self._shown != before,
            latency_ms=1000 * (time.perf_counter() - decoded_at_s),
            scores=scores_1K[0].numpy(),
            picture=frame.picture,
        )

    def _scores(self, picture: NDArray[np.uint8]) -> torch.Tensor:
        """(1, K), float32, on the CPU."""
        how = self._recognizer.preprocessing
        # Rotated pictures are views with negative strides; frames of a pipe are read-only.
        frame_1CHW = torch.tensor(np.ascontiguousarray(picture)).permute(2, 0, 1).unsqueeze(0)
        crop_1CHW = self._transform(frame_1CHW)[0].to(self._recognizer.device)
        frame = normalize(crop_1CHW, how.mean, how.std)
        scores_1K, self._network_state = self._step.advance(frame, self._network_state)
        return scores_1K.float().cpu()

    def _named(self, label: int, probs_K: list[float]) -> ClassProb:
        return ClassProb(label, self._recognizer.labels[label], probs_K[label])


class LiveRecognition(Closing):
    """Recognizes a source; iterating gives a `FrameResult` for each frame that the network gets.

    Frames are decoded in a thread, which has ended when the iteration has.

    Args:
        recognizer: The network, causal, with its labels and preprocessing.
        source: What `open_live` opens, or an opened source, which is closed at the end.
        settings: See `StreamSettings`.
        fast: See `FrameRecognizer`.

    Raises:
        OptionError: the network looks ahead, or settings and source do not fit each other.
        UnreadableVideoError: the source cannot be opened; while iterating, it was lost.

    Example:
        `for result in LiveRecognition(recognizer, "rtsp://camera/1"): print(result.top[0].name)`
    """

    def __init__(
        self,
        recognizer: ClipRecognizer,
        source: str | LiveSource,
        *,
        settings: StreamSettings | None = None,
        fast: bool = False,
    ) -> None:
        self.settings = settings or StreamSettings()
        self._recognize = FrameRecognizer(recognizer, self.settings, fast=fast)
        self._source = open_live(source) if isinstance(source, str) else source
        self._queue = _queue(self._source, self.settings, recognizer.preprocessing)
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES)
        self._frames = 0
        self._began = self._ended = 0.0

    def __iter__(self) -> Iterator[FrameResult]:
        """The results; a stream can be iterated once."""
        self._began = self._ended = time.monotonic()
        connection, first_s = 0, None
        try:
            for frame, decoded_at_s in self._queue:
                first_s = frame.time_s if first_s is None else first_s
                if self.settings.limit_s and frame.time_s - first_s >= self.settings.limit_s:
                    return
                if frame.connection != connection and self.settings.on_reconnect == "restart":
                    self._recognize.restart()
                connection = frame.connection
                result = self._recognize(frame, decoded_at_s=decoded_at_s)
                self._count(result)
                yield result
                if self._frames == self.settings.limit_frames:
                    return
        finally:
            self.close()

    def stop(self) -> None:
        """Ends the iteration after the current frame; may be called in a signal handler."""
        self._queue.stop()

    def close(self) -> None:
        """Ends the iteration and waits for the decoding thread."""
        self._queue.close()

    @property
    def summary(self) -> StreamSummary:
        """The stream so far."""
        latencies = np.array(self._latencies_ms or [0.0])
        p50, p99 = np.percentile(latencies, [50, 99])
        return StreamSummary(
            frames=self._frames,
            dropped=self._queue.dropped,
            seconds=self._ended - self._began,
            latency_p50_ms=float(p50),
            latency_p99_ms=float(p99),
            reconnects=self._source.reconnects,
        )

    def _count(self, result: FrameResult) -> None:
        self._frames += 1
        self._latencies_ms.append(result.latency_ms)
        self._ended = time.monotonic()


def streaming_form(recognizer: ClipRecognizer, *, fast: bool = False) -> Step:
    """The recognizer's network frame by frame.

    Args:
        recognizer: With a causal network.
        fast: Whether the fastest form on this machine runs instead; see
            `kinema.inference.optimize_stream`.

    Raises:
        OptionError: the network looks ahead; the message says how to get one that does not.
    """
    net = recognizer.net
    try:
        step = net.streaming()
    except OptionError as error:
        if net.reach.look_ahead == 0:
            raise
        raise OptionError(
            f"{net.name} cannot be streamed: {error} From a run folder: kinema train "
            "RUN/recipe.toml model.causal=true --out runs/live."
        ) from None
    if not fast:
        return step
    side = recognizer.preprocessing.crop_px
    example = next(net.parameters()).new_zeros((1, 3, side, side))
    return optimize_stream(net, example=example).step


def training_spacing(preprocessing: Preprocessing) -> int:
    """Every how many-th frame of a video the training took; 1 where it depends on the length."""
    if preprocessing.sampling == "dense":
        return preprocessing.window_frames // preprocessing.frames
    return 1


def labels_named(names: tuple[str, ...], class_names: tuple[str, ...]) -> tuple[int, ...]:
    """The labels of classes.

    Raises:
        OptionError: there is no class of a name.
    """
    for name in names:
        if name not in class_names:
            raise OptionError(f"Unknown class {name!r}. " + did_you_mean(name, class_names))
    return tuple(class_names.index(name) for name in names)


def _queue(source: LiveSource, settings: StreamSettings, how: Preprocessing) -> FrameQueue:
    """The queue that obeys the settings for this source."""
    if source.is_live and settings.pace == "full":
        source.close()
        raise OptionError(f"{source.name} is live: it has only its own pace, pace='source'.")
    at_pace = settings.pace == "source" or source.is_live
    if not at_pace and settings.drop not in (None, "never"):
        source.close()
        raise _nothing_drops(settings.drop)
    return FrameQueue(
        source,
        drop=settings.drop or ("oldest" if at_pace else "never"),
        wanted=_choice(settings, how),
        paced=at_pace and not source.is_live,
    )


def _choice(settings: StreamSettings, how: Preprocessing) -> Callable[[LiveFrame], bool]:
    """Which frames the network gets."""
    rate, every = settings.rate_hz, settings.every or training_spacing(how)
    if rate is None:
        return lambda frame: frame.number % every == 0
    last = -1

    def is_next(frame: LiveFrame) -> bool:
        nonlocal last
        tick = int(frame.time_s * rate + 1e-6)  # times are rounded
        last, before = max(tick, last), last
        return tick > before

    return is_next
