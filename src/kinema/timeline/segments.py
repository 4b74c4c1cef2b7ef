"""Segments from the probabilities of windows, by smoothing and hysteresis.

Letters: M windows, K classes, B streams.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.errors import OptionError, check_range
from kinema.live.smoothing import NOTHING, Hysteresis, background_labels


@dataclass(frozen=True)
class SegmentRule:
    """Smoothing and thresholds that turn windows into segments.

    Attributes:
        smooth_windows: Windows of the centered mean of probabilities; odd, 1 for no smoothing.
        enter: Smoothed probability at which a segment begins.
        leave: Smoothed probability below which it ends; at most `enter`.
        background: Names of background classes, which give no segments.
        min_length_s: Minimum length; shorter segments are left out.
    """

    smooth_windows: int = 3
    enter: float = 0.5
    leave: float = 0.3
    background: tuple[str, ...] = ()
    min_length_s: float = 0.0

    def __post_init__(self) -> None:
        if self.smooth_windows < 1 or self.smooth_windows % 2 == 0:
            raise OptionError(
                "The mean over windows is centered, so their number must be odd, "
                f"got {self.smooth_windows}."
            )
        check_range(at_least=0, min_length_s=self.min_length_s)
        Hysteresis(self.enter, self.leave)

    def hysteresis(self, class_names: tuple[str, ...]) -> Hysteresis:
        """Hysteresis with the labels of the background classes.

        Raises:
            UnknownNameError: the network has no class of this name.
        """
        labels = background_labels(self.background, class_names)
        return Hysteresis(self.enter, self.leave, background=labels)


@dataclass(frozen=True)
class Segment:
    """Part of the video with one class; `prob` is the mean of its smoothed probability."""

    start_s: float
    end_s: float
    label: int
    name: str
    prob: float


def find_segments(
    probs_MK: NDArray[np.float32],
    cells_s: NDArray[np.float64],
    class_names: tuple[str, ...],
    rule: SegmentRule,
) -> tuple[Segment, ...]:
    """Finds the segments of a video.

    Args:
        probs_MK: Probabilities of each window, (M, K).
        cells_s: (M + 1,) edges of the time intervals that the windows represent.
        class_names: K names.
        rule: Smoothing and thresholds.

    Raises:
        UnknownNameError: there is no background class of this name.
    """
    smooth_MK = smoothed(probs_MK, rule.smooth_windows)
    # A segment is a run of windows with the same shown label.
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
    """Centered moving average over `windows` windows; fewer at both ends."""
    sums_MK, counts_M1 = probs_MK.copy(), np.ones((len(probs_MK), 1), np.float32)
    for shift in range(1, windows // 2 + 1):
        later, earlier = slice(shift, None), slice(None, -shift)
        sums_MK[later] += probs_MK[earlier]
        sums_MK[earlier] += probs_MK[later]
        counts_M1[later] += 1
        counts_M1[earlier] += 1
    return sums_MK / counts_M1


def _shown(smooth_MK: NDArray[np.float32], rule: Hysteresis) -> NDArray[np.int64]:
    """(M,) shown label of each window, `NOTHING` for none."""
    state: tuple[torch.Tensor, ...] = ()
    shown_M = np.empty(len(smooth_MK), np.int64)
    for window, probs_K in enumerate(torch.from_numpy(smooth_MK)):
        label_B, state = rule.advance(probs_K.unsqueeze(0), state)
        shown_M[window] = int(label_B)
    return shown_M
