"""Results of a stream: one for each frame, and the summary at the end.

Letters: K classes, H, W.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.values import ClassProb

# Newest latencies kept for the summary, as a stream may run for months.
LATENCIES = 10_000


@dataclass(frozen=True)
class FrameResult:
    """Result of one frame.

    Attributes:
        frame: Number of the frame in its source.
        time_s: Time since the first frame.
        top: Most probable classes, best first, with smoothed probabilities.
        shown: Class to show; None if no class is clear.
        changed: True if `shown` differs from the previous frame.
        latency_ms: Time from the decoded frame to this result.
        scores: (K,) of this frame, before softmax and smoothing.
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

    @property
    def caption(self) -> str:
        """The shown class, and one line for each of the most probable ones."""
        lines = [f"{entry.prob:4.0%} {entry.name}" for entry in self.top]
        return "\n".join([self.shown.name if self.shown else "-", *lines])

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `event` is present if the shown class changed."""
        shown = self.shown
        event = {"label": shown and shown.label, "name": shown and shown.name}
        return {
            "frame": self.frame,
            "time_s": round(self.time_s, 6),
            "top": [entry.to_dict(digits=6) for entry in self.top],
            **({"event": event} if self.changed else {}),
            "latency_ms": round(self.latency_ms, 3),
        }


@dataclass(frozen=True)
class StreamSummary:
    """Statistics of a stream.

    Attributes:
        frames: Number of results.
        dropped: Selected frames that were dropped because the network was too slow.
        seconds: Time from the start of the iteration to the last result.
        latency_p50_ms: Median latency of the newest `LATENCIES` results.
        latency_p99_ms: 99th percentile of the same latencies.
        reconnects: Number of reconnects.
        time_steps: Number of times that the clock of the source stepped. Times go on from there.
        time_outliers: Number of single frames whose times were replaced.
    """

    frames: int
    dropped: int
    seconds: float
    latency_p50_ms: float
    latency_p99_ms: float
    reconnects: int
    time_steps: int = 0
    time_outliers: int = 0

    def __str__(self) -> str:
        rate = self.frames / self.seconds if self.seconds else 0.0
        wrong = self.time_steps + self.time_outliers
        counts = f", {self.time_steps} steps of the clock, {self.time_outliers} wrong times"
        return (
            f"{self.frames} frames in {self.seconds:.1f} s ({rate:.1f} per second), "
            f"{self.dropped} dropped, latency p50 {self.latency_p50_ms:.1f} ms, "
            f"p99 {self.latency_p99_ms:.1f} ms, {self.reconnects} reconnects"
            f"{counts if wrong else ''}"
        )
