"""Recognizes a live source frame by frame with an online network.

Letters: K classes, H, W.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.data.transforms import ViewTransform, normalize
from kinema.errors import OptionError, check_range, did_you_mean
from kinema.inference.optimize import optimize_stream
from kinema.inference.predict import ClipRecognizer, check_finite
from kinema.inference.runtime import Step
from kinema.live.frame_queue import DropName, FrameQueue
from kinema.live.live_source import LiveFrame, LiveSource
from kinema.live.result import LATENCIES, FrameResult, StreamSummary
from kinema.live.smoothing import NOTHING, Hysteresis, Smoothing, WindowMean
from kinema.live.sources import open_live
from kinema.system.closing import Closing
from kinema.temporal.memory import State
from kinema.values import ClassProb, Preprocessing, Views

Pace = Literal["source", "full"]
OnReconnect = Literal["restart", "continue"]
_NAMES = {"pace": get_args(Pace), "drop": get_args(DropName), "on_reconnect": get_args(OnReconnect)}


@dataclass(frozen=True)
class StreamSettings:
    """Frame selection, smoothing and pace of a stream.

    Attributes:
        every: Use every n-th frame; None uses the spacing of the training if it was dense, else
            every frame.
        rate_hz: Frames per second to use, instead of `every`.
        smoothing: Running mean of the probabilities.
        hysteresis: Rule for the shown class.
        top: Number of most probable classes per frame.
        pace: "source" uses frames in real time, "full" as fast as the network runs; None is
            "source" for live sources and "full" for others.
        drop: Rule for dropping frames when the network is too slow, see `FrameQueue`; None is
            "oldest" at pace "source" and "never" at pace "full".
        on_reconnect: After a reconnect, "restart" clears the memory and the shown class,
            "continue" keeps them.
        limit_frames: Number of results after which the stream ends.
        limit_s: Time since the first frame at which the stream ends, in seconds.
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
        check_range(
            above=0,
            every=self.every,
            rate_hz=self.rate_hz,
            top=self.top,
            limit_frames=self.limit_frames,
            limit_s=self.limit_s,
        )
        for name, known in _NAMES.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise OptionError(f"Unknown {name} {value!r}. " + did_you_mean(value, known))
        if self.pace == "full" and self.drop not in (None, "never"):
            raise _nothing_drops(self.drop)


def _nothing_drops(drop: str) -> OptionError:
    return OptionError(f"At full speed no frame is dropped: drop={drop!r} needs pace='source'.")


class FrameRecognizer:
    """Online network with smoothing and hysteresis for one stream, independent of its source.

    Args:
        recognizer: Causal network with its class names and preprocessing.
        settings: See `StreamSettings`.
        fast: Runs the fastest form on this machine; see `kinema.inference.optimize`.
        step: Result of `online_step`. Streams may share it, as each keeps a memory of its own.

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
                raise OptionError(f"Background label {label}: there is no class {label}.")
        self._recognizer = recognizer
        self._settings = settings
        self._step = step or online_step(recognizer, fast=fast)
        self._memory: State = ()
        self._transform = ViewTransform(recognizer.preprocessing, Views())
        self._smoothing_state: State = ()
        self._shown_state: State = ()
        self._shown = NOTHING

    def restart(self) -> None:
        """Clears the memory, for a new stream."""
        self._memory = self._smoothing_state = self._shown_state = ()

    @torch.inference_mode()
    def __call__(self, frame: LiveFrame, *, decoded_at_s: float) -> FrameResult:
        """Recognizes the next frame.

        Args:
            frame: The frame.
            decoded_at_s: Start of the latency, a moment of `time.perf_counter`.
        """
        scores_1K = self._scores(frame.picture)
        check_finite(scores_1K.numpy(), f"frame {frame.number}")
        probs_1K, self._smoothing_state = self._settings.smoothing.advance(
            scores_1K.softmax(1), self._smoothing_state
        )
        shown_1, self._shown_state = self._settings.hysteresis.advance(probs_1K, self._shown_state)
        previous, self._shown = self._shown, int(shown_1)
        probs_K = probs_1K[0].tolist()
        best = sorted(range(len(probs_K)), key=lambda label: -probs_K[label])[: self._settings.top]
        return FrameResult(
            frame=frame.number,
            time_s=frame.time_s,
            top=tuple(self._named(label, probs_K) for label in best),
            shown=None if self._shown == NOTHING else self._named(self._shown, probs_K),
            changed=self._shown != previous,
            latency_ms=1000 * (time.perf_counter() - decoded_at_s),
            scores=scores_1K[0].numpy(),
            picture=frame.picture,
        )

    def _scores(self, picture: NDArray[np.uint8]) -> torch.Tensor:
        """(1, K), float32, on the CPU."""
        preprocessing = self._recognizer.preprocessing
        # A copy: rotated pictures have negative strides, and raw frames are read-only.
        frame_1CHW = torch.tensor(np.ascontiguousarray(picture)).permute(2, 0, 1).unsqueeze(0)
        crop_1CHW = self._transform(frame_1CHW)[0].to(self._recognizer.device)
        frame = normalize(crop_1CHW, preprocessing.mean, preprocessing.std)
        scores_1K, self._memory = self._step.advance(frame, self._memory)
        return scores_1K.float().cpu()

    def _named(self, label: int, probs_K: list[float]) -> ClassProb:
        return ClassProb(label, self._recognizer.labels[label], probs_K[label])


class LiveRecognition(Closing):
    """Stream over a live source; iterating yields a `FrameResult` for each selected frame.

    Frames are decoded in a thread, which ends with the iteration.

    Args:
        recognizer: Causal network with its class names and preprocessing.
        source: Argument of `open_live`, or an open source, which is closed at the end.
        settings: See `StreamSettings`.
        fast: See `FrameRecognizer`.

    Raises:
        OptionError: the network looks ahead, or the settings do not fit the source.
        UnreadableVideoError: the source cannot be opened or, while iterating, was lost.

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
        self._queue = _make_queue(self._source, self.settings, recognizer.preprocessing)
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES)
        self._frames = 0
        self._began = self._ended = 0.0
        self._time_steps = self._time_outliers = 0

    def __iter__(self) -> Iterator[FrameResult]:
        """Yields the results; a stream can be iterated once."""
        self._began = self._ended = time.monotonic()
        connection, first_s = 0, None
        try:
            for frame, decoded_at_s in self._queue:
                first_s = frame.time_s if first_s is None else first_s
                if self.settings.limit_s and frame.time_s - first_s >= self.settings.limit_s:
                    return
                # Frames were lost with the connection, so the memory is out of date.
                if frame.connection != connection and self.settings.on_reconnect == "restart":
                    self._recognize.restart()
                connection = frame.connection
                self._time_steps, self._time_outliers = frame.time_steps, frame.time_outliers
                result = self._recognize(frame, decoded_at_s=decoded_at_s)
                self._frames += 1
                self._latencies_ms.append(result.latency_ms)
                self._ended = time.monotonic()
                yield result
                if self._frames == self.settings.limit_frames:
                    return
        finally:
            self.close()

    def stop(self) -> None:
        """Ends the iteration after the current frame; signal handlers may call it."""
        self._queue.stop()

    def close(self) -> None:
        """Ends the iteration and joins the decoding thread."""
        self._queue.close()

    @property
    def summary(self) -> StreamSummary:
        """Statistics of the stream so far."""
        latencies = np.array(self._latencies_ms or [0.0])
        p50, p99 = np.percentile(latencies, [50, 99])
        return StreamSummary(
            frames=self._frames,
            dropped=self._queue.dropped,
            seconds=self._ended - self._began,
            latency_p50_ms=float(p50),
            latency_p99_ms=float(p99),
            reconnects=self._source.reconnects,
            time_steps=self._time_steps,
            time_outliers=self._time_outliers,
        )


def online_step(recognizer: ClipRecognizer, *, fast: bool = False) -> Step:
    """Makes an online network: the recognizer's network, run frame by frame.

    Args:
        recognizer: Causal network.
        fast: Uses the fastest form on this machine; see `kinema.inference.optimize`.

    Raises:
        OptionError: the network looks ahead; the message says how to get a causal one.
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
    """Spacing of frames in training; 1 if it depended on the length of the video."""
    if preprocessing.has_window:
        return preprocessing.window_frames // preprocessing.frames
    return 1


def _make_queue(
    source: LiveSource, settings: StreamSettings, preprocessing: Preprocessing
) -> FrameQueue:
    """Makes the queue for a source; closes the source if the settings do not fit."""
    if source.is_live and settings.pace == "full":
        source.close()
        raise OptionError(f"{source.name} is live and sets the pace: use pace='source'.")
    at_pace = settings.pace == "source" or source.is_live
    if not at_pace and settings.drop not in (None, "never"):
        source.close()
        raise _nothing_drops(settings.drop)
    return FrameQueue(
        source,
        drop=settings.drop or ("oldest" if at_pace else "never"),
        select=_selection(settings, preprocessing),
        paced=at_pace and not source.is_live,
    )


def _selection(
    settings: StreamSettings, preprocessing: Preprocessing
) -> Callable[[LiveFrame], bool]:
    """Makes the predicate that selects frames for the network."""
    rate, every = settings.rate_hz, settings.every or training_spacing(preprocessing)
    if rate is None:
        return lambda frame: frame.number % every == 0
    last = -1

    def is_next(frame: LiveFrame) -> bool:
        nonlocal last
        tick = int(frame.time_s * rate + 1e-6)  # times may be rounded down
        last, previous = max(tick, last), last
        return tick > previous

    return is_next
