"""TRN: scores from relations between frames, instead of the mean of the frames' scores.

Letters: B clips, T frames, N = B*T, F features of a frame, R subsets of one length, K classes.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from kinema.errors import OptionError, check_range
from kinema.temporal.base import TemporalModule

# For each length, from T down to 2, subsets of the frames.
Subsets = Sequence[Sequence[Sequence[int]]]

# Features of a frame, and subsets of one length, as in mmaction2.
WIDTH = 256
MOST_SUBSETS = 3


def evenly_spaced(frames: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Subsets of the frames of each length from `frames` down to 2, at most three of a length.

    They are evenly spaced in the list of all subsets of their length in lexicographic order.

    Example:
        >>> evenly_spaced(4)
        (((0, 1, 2, 3),), ((0, 1, 2), (0, 2, 3), (1, 2, 3)), ((0, 2), (1, 2), (2, 3)))
    """
    check_range(at_least=2, **{"frames of a TRN": frames})
    scales = []
    for length in range(frames, 1, -1):
        total = math.comb(frames, length)
        count = min(MOST_SUBSETS, total)
        ranks = [(2 * number + 1) * total // (2 * count) for number in range(count)]
        scales.append(tuple(_subset(rank, frames, length) for rank in ranks))
    return tuple(scales)


def _subset(rank: int, frames: int, length: int) -> tuple[int, ...]:
    """The subset of `length` frames with this number in lexicographic order."""
    chosen: list[int] = []
    for frame in range(frames):
        if len(chosen) == length:
            break
        beginning_here = math.comb(frames - frame - 1, length - len(chosen) - 1)
        if rank < beginning_here:
            chosen.append(frame)
        else:
            rank -= beginning_here
    return tuple(chosen)


class TRN(TemporalModule):
    """Multi-scale relations between frames (TRN: Zhou et al., ECCV 2018, arXiv 1711.08496).

    For each length s from T down to 2 a network of two layers scores subsets of s frames: the
    features of their frames side by side, ReLU, linear layer, ReLU, linear layer. The scores of
    all subsets are added, and every frame of a clip is given their sum.

    Follows mmaction2, whose head stands behind a linear layer to F features per frame and draws
    up to three subsets of each length anew in every pass, so that the scores of a clip change from
    one pass to the next. Here they are fixed when the network is built, and are evenly spaced
    unless they are given.

    Weights: for each s sF^2 + F + FK + K. Multiply-adds: sF^2 + FK for each subset of a clip. State
    when streaming: there is no causal form, because the scores depend on the whole clip, and the
    number of frames defines the layers.

    Args:
        classes: K.
        frames: T, at least 2.
        subsets: Subsets of the frames for every length, from T down to 2.
        width: F.

    Raises:
        OptionError: the subsets do not fit the frames.
    """

    frames_in_weights = True
    has_causal_form = False

    def __init__(
        self, classes: int, *, frames: int, subsets: Subsets | None = None, width: int = WIDTH
    ) -> None:
        super().__init__(frames=frames, look_back=None, look_ahead=None)
        scales = evenly_spaced(frames) if subsets is None else subsets
        self.subsets = tuple(tuple(map(tuple, group)) for group in scales)
        _check_subsets(self.subsets, frames)
        self.width = width
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Linear(length * width, width),
                nn.ReLU(inplace=True),
                nn.Linear(width, classes),
            )
            for length in range(frames, 1, -1)
        )

    def forward(self, x_NF: torch.Tensor) -> torch.Tensor:
        """Adds the scores of all subsets: (N, F) -> (N, K), equal for the frames of a clip."""
        frame_BF = torch.unflatten(x_NF, 0, (-1, self.frames)).unbind(1)
        parts_BK = []
        for layers, subsets in zip(self.scales, self.subsets, strict=True):
            rows = [torch.cat([frame_BF[t] for t in subset], 1) for subset in subsets]
            parts_BK.append(layers(torch.stack(rows)).sum(0))
        return torch.stack(parts_BK).sum(0).repeat_interleave(self.frames, 0)

    def check_frames(self, frames: int) -> None:
        """Raises OptionError for another number of frames, which needs other layers."""
        if frames != self.frames:
            raise OptionError(
                f"TRN has layers for clips of {self.frames} frames and cannot run {frames}. Train "
                "a network for this number of frames."
            )


def _check_subsets(subsets: Subsets, frames: int) -> None:
    lengths = list(range(frames, 1, -1))
    if len(subsets) != len(lengths):
        raise OptionError(
            f"TRN needs subsets of {len(lengths)} lengths, from all {frames} frames down to 2, got "
            f"{len(subsets)}."
        )
    for length, group in zip(lengths, subsets, strict=True):
        for subset in group:
            if len(subset) != length or not _increasing(subset, frames):
                raise OptionError(
                    f"TRN subset {list(subset)}: expected {length} increasing frame numbers "
                    f"between 0 and {frames - 1}."
                )
        if not group:
            raise OptionError(f"TRN needs at least one subset of {length} frames.")


def _increasing(subset: Sequence[int], frames: int) -> bool:
    return set(subset) <= set(range(frames)) and list(subset) == sorted(set(subset))
