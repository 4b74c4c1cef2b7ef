"""Smoothing and hysteresis against their definitions."""

import pytest
import torch

from kinema.errors import InputShapeError, OptionError
from kinema.live.smoothing import NOTHING, EveryFrame, ExponentialMean, Hysteresis, WindowMean
from kinema.models.streaming import reset_rows


def run(rule, frames_TBK: torch.Tensor) -> torch.Tensor:
    state, outputs = (), []
    for values_BK in frames_TBK:
        out, state = rule.advance(values_BK, state)
        outputs.append(out)
    return torch.stack(outputs)


def test_window_mean_is_the_mean_of_the_last_frames():
    frames = torch.randn(9, 2, 3)
    smoothed = run(WindowMean(frames=4), frames)
    for t in range(9):
        expected = frames[max(0, t - 3) : t + 1].mean(0)
        torch.testing.assert_close(smoothed[t], expected, rtol=1e-5, atol=1e-6)


def test_exponential_mean_halves_the_weight_of_old_frames():
    frames = torch.randn(9, 2, 3)
    smoothed = run(ExponentialMean(half_life_frames=2), frames)
    for t in range(9):
        weights = 0.5 ** (torch.arange(t, -1, -1) / 2)
        expected = (weights[:, None, None] * frames[: t + 1]).sum(0) / weights.sum()
        torch.testing.assert_close(smoothed[t], expected, rtol=1e-5, atol=1e-6)


def test_every_frame_and_a_window_of_one_change_nothing():
    frames = torch.randn(4, 2, 3)
    assert torch.equal(run(EveryFrame(), frames), frames)
    assert torch.equal(run(WindowMean(frames=1), frames), frames)


@pytest.mark.parametrize("rule", [WindowMean(4), ExponentialMean(3), Hysteresis(0.4, 0.3, 2)])
def test_a_stream_that_is_reset_starts_anew_and_the_others_go_on(rule):
    frames = torch.rand(8, 2, 3)
    state = ()
    for values in frames[:4]:
        _, state = rule.advance(values, state)
    before = [tensor.clone() for tensor in state]
    left = reset_rows(state, [1])
    assert all(map(torch.equal, state, before))
    whole, fresh = run(rule, frames), run(rule, frames[4:])
    for t, values in enumerate(frames[4:]):
        out, left = rule.advance(values, left)
        assert torch.equal(out[0], whole[4 + t, 0])
        assert torch.equal(out[1], fresh[t, 1])


def shown(rule: Hysteresis, first_class_probs: list[float]) -> list[int]:
    """The labels for one stream whose class 0 and 1 share what is left of a third one."""
    probs = torch.tensor([[p, 0.05, 0.95 - p] for p in first_class_probs])
    return run(rule, probs.unsqueeze(1))[:, 0].tolist()


def test_hysteresis_keeps_a_label_between_its_two_thresholds():
    rule = Hysteresis(enter=0.6, leave=0.4)
    assert shown(rule, [0.5, 0.61, 0.45, 0.41, 0.39, 0.5]) == [-1, 0, 0, 0, -1, -1]


def test_another_clear_label_takes_over_at_once_or_after_its_patience():
    probs = [0.9, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1]
    assert shown(Hysteresis(0.6, 0.05), probs) == [0, 0, 2, 0, 2, 2, 2]
    assert shown(Hysteresis(0.6, 0.05, patience=2), probs) == [-1, 0, 0, 0, 0, 2, 2]


def test_background_labels_are_shown_as_nothing():
    assert shown(Hysteresis(0.6, 0.05, background=(2,)), [0.9, 0.1, 0.9]) == [0, NOTHING, 0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: WindowMean(0), "frames must be at least 1, got 0"),
        (lambda: ExponentialMean(0), "half_life_frames must be above 0, got 0"),
        (lambda: Hysteresis(enter=0.3, leave=0.4), "leave=0.4, enter=0.3"),
        (lambda: Hysteresis(patience=0), "patience must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_named(build, message):
    with pytest.raises(OptionError, match=message):
        build()


def test_a_state_of_other_streams_is_refused():
    _, state = WindowMean(3).advance(torch.rand(2, 5))
    with pytest.raises(InputShapeError, match="other streams or another rule"):
        WindowMean(3).advance(torch.rand(1, 5), state)
