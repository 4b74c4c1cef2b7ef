"""From the values of single frames to a steady answer: smoothing over time, and what to show.

Every class is a rule without a memory of its own: the state goes in and comes out, as with
`StreamingNetwork.advance`. It is a tuple of tensors with the stream axis first, () or zeros for
a stream that starts now, so `online.reset_rows` starts streams anew here too.

Letters: B streams, K classes, P past frames.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from kinema.errors import InputShapeError, OptionError
from kinema.temporal.memory import State

NOTHING = -1


class Smoothing(Protocol):
    """A mean over the frames so far, for values of any meaning: scores or probabilities."""

    def advance(self, values_BK: torch.Tensor, state: State = ()) -> tuple[torch.Tensor, State]:
        """The smoothed values (B, K) of the newest frame and the state after it."""


@dataclass(frozen=True)
class EveryFrame:
    """No smoothing: each frame's own values."""

    def advance(self, values_BK: torch.Tensor, state: State = ()) -> tuple[torch.Tensor, State]:
        """The values as they are."""
        return values_BK, state


@dataclass(frozen=True)
class WindowMean:
    """The mean of the last `frames` frames, or of as many as the stream has had.

    12 frames are those of the authors' demonstration of the online TSM.
    """

    frames: int = 12

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise OptionError(f"WindowMean frames must be at least 1, got {self.frames}.")

    def advance(self, values_BK: torch.Tensor, state: State = ()) -> tuple[torch.Tensor, State]:
        """The mean (B, K) and the state after this frame."""
        streams, classes = values_BK.shape
        shapes = (streams, self.frames - 1, classes), (streams, 1)
        past_BPK, count_B1 = _resumed(state, values_BK, shapes)
        frames_BPK = torch.cat([past_BPK, values_BK.unsqueeze(1)], 1)
        count_B1 = (count_B1 + 1).clamp(max=self.frames)
        return frames_BPK.sum(1) / count_B1, (frames_BPK[:, 1:], count_B1)


@dataclass(frozen=True)
class ExponentialMean:
    """A mean in which a frame counts half as much as one that is `half_life_frames` younger.

    The weights sum to one from the first frame on.
    """

    half_life_frames: float = 8.0

    def __post_init__(self) -> None:
        if not self.half_life_frames > 0:
            raise OptionError(
                f"ExponentialMean half_life_frames must be above 0, got {self.half_life_frames}."
            )

    def advance(self, values_BK: torch.Tensor, state: State = ()) -> tuple[torch.Tensor, State]:
        """The mean (B, K) and the state after this frame."""
        decay = 0.5 ** (1 / self.half_life_frames)
        sum_BK, weight_B1 = _resumed(state, values_BK, (values_BK.shape, (len(values_BK), 1)))
        sum_BK, weight_B1 = decay * sum_BK + values_BK, decay * weight_B1 + 1
        return sum_BK / weight_B1, (sum_BK, weight_B1)


@dataclass(frozen=True)
class Hysteresis:
    """Which label to show: one that has come in clearly stays until it is clearly gone.

    A label comes in when it is the best one with a probability of at least `enter` for `patience`
    frames in a row. The shown label stays until another one comes in or its own probability falls
    below `leave`; then nothing is shown.

    Args:
        enter: Probability that brings a label in.
        leave: Probability below which the shown label goes; at most `enter`.
        patience: Frames in a row.
        background: Labels that mean that nothing happens. They come in like others and are shown
            as nothing.
    """

    enter: float = 0.5
    leave: float = 0.3
    patience: int = 1
    background: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.leave <= self.enter <= 1:
            raise OptionError(
                "Hysteresis needs 0 <= leave <= enter <= 1, got "
                f"leave={self.leave}, enter={self.enter}."
            )
        if self.patience < 1:
            raise OptionError(f"Hysteresis patience must be at least 1, got {self.patience}.")

    def advance(self, probs_BK: torch.Tensor, state: State = ()) -> tuple[torch.Tensor, State]:
        """The label (B,) to show after this frame, `NOTHING` for none, and the state after it.

        Args:
            probs_BK: Probabilities, best smoothed ones.
            state: What the last frame left: the shown and the coming label, both counted from 1
                with 0 for none, and for how many frames the coming one has come.
        """
        streams = (len(probs_BK),)
        shown_B, coming_B, run_B = (
            tensor.long() for tensor in _resumed(state, probs_BK, (streams,) * 3)
        )
        best_B = probs_BK.argmax(1)
        clear_B = probs_BK.gather(1, best_B.unsqueeze(1)).squeeze(1) >= self.enter
        candidate_B = torch.where(clear_B, best_B + 1, 0)
        run_B = torch.where(candidate_B == coming_B, run_B + 1, 1).clamp(max=self.patience)
        arrived_B = clear_B & (run_B == self.patience)
        own_B = probs_BK.gather(1, (shown_B - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
        kept_B = torch.where(own_B >= self.leave, shown_B, 0)
        shown_B = torch.where(arrived_B, candidate_B, kept_B)
        label_B = shown_B - 1
        for label in self.background:
            label_B = torch.where(label_B == label, NOTHING, label_B)
        return label_B, (shown_B, candidate_B, run_B)


def _resumed(state: State, values: torch.Tensor, shapes: tuple[tuple[int, ...], ...]) -> State:
    """The state, or zeros of these shapes when the streams start.

    Raises:
        InputShapeError: it is a state of other streams or another rule.
    """
    if not state:
        return tuple(values.new_zeros(shape) for shape in shapes)
    given = [tuple(tensor.shape) for tensor in state]
    if given != [tuple(shape) for shape in shapes]:
        raise InputShapeError(
            f"The state has tensors of the shapes {given}, but these values need "
            f"{[tuple(shape) for shape in shapes]}: it is that of other streams or another rule."
        )
    return state
