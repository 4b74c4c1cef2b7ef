"""Turns scores of single frames into a steady answer: smoothing over time, then hysteresis.

The classes are stateless: the state is passed in and returned, as with
`StreamingNetwork.advance`. It is a tuple of tensors with the stream axis first, () or zeros for
new streams.

Letters: B streams, K classes, P past frames.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from kinema.errors import InputShapeError, OptionError, UnknownNameError, check_range, did_you_mean
from kinema.temporal.memory import State

# Shown label when no class is shown.
NOTHING = -1


class Smoothing(Protocol):
    """Running mean over frames, of scores or probabilities."""

    def advance(self, values_BK: torch.Tensor, state: State = ()) -> tuple[torch.Tensor, State]:
        """Returns the smoothed values (B, K) of the newest frame and the new state."""


@dataclass(frozen=True)
class EveryFrame:
    """No smoothing: values of each frame unchanged."""

    def advance(self, values_BK: torch.Tensor, state: State = ()) -> tuple[torch.Tensor, State]:
        """Returns the values unchanged."""
        return values_BK, state


@dataclass(frozen=True)
class WindowMean:
    """Mean of the last `frames` frames, or of all frames while there are fewer.

    The authors' demo of the online TSM averages 12 frames.
    """

    frames: int = 12

    def __post_init__(self) -> None:
        check_range(at_least=1, frames=self.frames)

    def advance(self, values_BK: torch.Tensor, state: State = ()) -> tuple[torch.Tensor, State]:
        """Returns the mean (B, K) and the new state."""
        streams, classes = values_BK.shape
        shapes = (streams, self.frames - 1, classes), (streams, 1)
        past_BPK, count_B1 = _resumed(state, values_BK, shapes)
        frames_BPK = torch.cat([past_BPK, values_BK.unsqueeze(1)], 1)
        count_B1 = (count_B1 + 1).clamp(max=self.frames)
        return frames_BPK.sum(1) / count_B1, (frames_BPK[:, 1:], count_B1)


@dataclass(frozen=True)
class ExponentialMean:
    """Exponential moving average: the weight of a frame halves every `half_life_frames` frames.

    The weights sum to one from the first frame on.
    """

    half_life_frames: float = 8.0

    def __post_init__(self) -> None:
        check_range(above=0, half_life_frames=self.half_life_frames)

    def advance(self, values_BK: torch.Tensor, state: State = ()) -> tuple[torch.Tensor, State]:
        """Returns the mean (B, K) and the new state."""
        decay = 0.5 ** (1 / self.half_life_frames)
        sum_BK, weight_B1 = _resumed(state, values_BK, (values_BK.shape, (len(values_BK), 1)))
        sum_BK, weight_B1 = decay * sum_BK + values_BK, decay * weight_B1 + 1
        return sum_BK / weight_B1, (sum_BK, weight_B1)


@dataclass(frozen=True)
class Hysteresis:
    """Chooses the label to show, with two thresholds so that it does not flicker.

    A label enters when it is the most probable one, with a probability of at least `enter`, for
    `patience` consecutive frames. It is shown until another label enters or its own probability
    falls below `leave`.

    Args:
        enter: Probability at which a label enters.
        leave: Probability below which the shown label leaves; at most `enter`.
        patience: Consecutive frames before a label enters.
        background: Background labels. They enter and leave like others, but nothing is shown.
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
        check_range(at_least=1, patience=self.patience)

    def advance(self, probs_BK: torch.Tensor, state: State = ()) -> tuple[torch.Tensor, State]:
        """Returns the label (B,) to show, `NOTHING` for none, and the new state.

        Args:
            probs_BK: Probabilities, preferably smoothed.
            state: Shown label, candidate label, and consecutive frames of the candidate. Labels
                are counted from 1 with 0 for none, so that zeros are a new stream.
        """
        streams = (len(probs_BK),)
        shown_B, previous_B, run_B = (
            tensor.long() for tensor in _resumed(state, probs_BK, (streams,) * 3)
        )
        # Candidate: the best label, if probable enough. Count its consecutive frames.
        best_B = probs_BK.argmax(1)
        clear_B = probs_BK.gather(1, best_B.unsqueeze(1)).squeeze(1) >= self.enter
        candidate_B = torch.where(clear_B, best_B + 1, 0)
        run_B = torch.where(candidate_B == previous_B, run_B + 1, 1).clamp(max=self.patience)
        enters_B = clear_B & (run_B == self.patience)
        # The shown label stays while its own probability is high enough.
        own_B = probs_BK.gather(1, (shown_B - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
        kept_B = torch.where(own_B >= self.leave, shown_B, 0)
        shown_B = torch.where(enters_B, candidate_B, kept_B)
        label_B = shown_B - 1
        for label in self.background:
            label_B = torch.where(label_B == label, NOTHING, label_B)
        return label_B, (shown_B, candidate_B, run_B)


def _resumed(state: State, values: torch.Tensor, shapes: tuple[tuple[int, ...], ...]) -> State:
    """Returns the state, or zeros of these shapes for new streams.

    Raises:
        InputShapeError: the state belongs to other streams or another rule.
    """
    if not state:
        return tuple(values.new_zeros(shape) for shape in shapes)
    given = [tuple(tensor.shape) for tensor in state]
    if given != [tuple(shape) for shape in shapes]:
        raise InputShapeError(
            f"The state has tensors of the shapes {given}, but these values need "
            f"{[tuple(shape) for shape in shapes]}: it belongs to other streams or another rule."
        )
    return state


def background_labels(names: tuple[str, ...], class_names: tuple[str, ...]) -> tuple[int, ...]:
    """Labels of the background classes.

    Raises:
        UnknownNameError: there is no class of a name.
    """
    for name in names:
        if name not in class_names:
            raise UnknownNameError(
                f"Unknown background class {name!r}. " + did_you_mean(name, class_names)
            )
    return tuple(class_names.index(name) for name in names)
