"""TSM and TIM against the specification: kernels, invariants, options."""

import pytest
import torch
from timm.layers import BatchNormAct2d
from timm.models.res2net import Bottle2neck
from torch import nn

from kinema.errors import OptionError, UnknownNameError
from kinema.models.res2net import ScaleConv
from kinema.temporal import (
    ACTION,
    CT,
    GSF,
    GTE,
    MEM,
    MTA,
    TDM,
    TIM,
    TSM,
    BigView,
    MaxGate,
    MotionSqueeze,
    NonLocal,
    TemporalModule,
    list_temporal,
    register,
    temporal_named,
)
from kinema.temporal.base import position_named
from kinema.temporal.conv import init_temporal_kernel
from kinema.temporal.kernels.gate import gate
from kinema.temporal.sequence import run_in_order

GROUPS = ScaleConv(Bottle2neck(8, 16, base_width=26, norm_layer=nn.BatchNorm2d))


def numbered(frames: int, channels: int) -> torch.Tensor:
    """Frame t of every channel holds t + 1."""
    return torch.arange(1.0, frames + 1).reshape(-1, 1, 1, 1).expand(frames, channels, 2, 2)


def test_bidirectional_shift_reads_next_then_previous():
    y = TSM(16, frames=4)(numbered(4, 16))[:, :, 0, 0]
    assert y[:, :2].tolist() == [[2, 2], [3, 3], [4, 4], [0, 0]]
    assert y[:, 2:4].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert y[:, 4:].eq(torch.arange(1.0, 5).reshape(-1, 1)).all()


def test_unidirectional_shift_reads_the_previous_frame_in_the_first_slot():
    module = TSM(16, frames=3, causal=True)
    y = module(numbered(3, 16))[:, :, 0, 0]
    assert y[:, :2].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert y[:, 2:].eq(torch.arange(1.0, 4).reshape(-1, 1)).all()
    assert (module.look_back, module.look_ahead) == (1, 0)


@pytest.mark.parametrize("divisor", [2, 4, 8])
def test_part_shift_tim_equals_tsm(divisor):
    x = torch.randn(16, 24, 5, 5)
    tim, tsm = TIM(24, frames=8, divisor=divisor), TSM(24, frames=8, divisor=divisor)
    assert torch.equal(tim(x), tsm(x))


@pytest.mark.parametrize(
    ("init", "kernels"),
    [
        ("part_shift", [[0, 0, 1], [1, 0, 0], *[[0, 1, 0]] * 6]),
        ("fixed_shift", [[0, 0, 1], [1, 0, 0], *[[0, 1, 0]] * 6]),
        ("identity", [[0, 1, 0]] * 8),
        ("half_shift", [*[[0, 0, 1]] * 4, *[[1, 0, 0]] * 4]),
        ("quarter_shift", [*[[1, 0, 0]] * 2, *[[0, 1, 0]] * 4, *[[0, 0, 1]] * 2]),
    ],
)
def test_initial_kernels(init, kernels):
    tim = TIM(8, frames=4, init=init)
    assert tim.weight[:, 0, :, 0].tolist() == kernels
    assert tim.weight.requires_grad == (init != "fixed_shift")


def test_random_init_is_the_frameworks_own():
    weight = torch.empty(512, 1, 3, 1)
    init_temporal_kernel(weight, "random")
    assert weight.abs().max() <= (1 / 3) ** 0.5
    assert weight.std() == pytest.approx(1 / 3, rel=0.05)


def test_wider_kernel_keeps_the_shift_next_to_the_middle():
    x = torch.randn(16, 8, 3, 3)
    assert torch.equal(TIM(8, frames=8, kernel=5)(x), TIM(8, frames=8)(x))


@pytest.mark.parametrize("module", [TSM(16, frames=6), TIM(16, frames=6, init="random")])
def test_moving_the_content_by_a_frame_moves_the_output(module):
    x = torch.randn(7, 16, 3, 3)
    early, late = module(x[:-1]), module(x[1:])
    torch.testing.assert_close(early[2:-1], late[1:-2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("module", [TSM(16, frames=3), TIM(16, frames=3, init="random")])
def test_clips_of_a_batch_do_not_mix(module):
    x = torch.randn(6, 16, 3, 3)
    torch.testing.assert_close(module(x)[:3], module(x[:3]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TSM(16, frames=4, divisor=1), "divisor must be at least 2"),
        (lambda: TSM(4, frames=4), "shifts nothing at a width of 4 channels"),
        (
            lambda: CT(nn.Conv2d(16, 16, 3, 2, 1), nn.BatchNorm2d(16), frames=4),
            "CT replaces a 3 x 3 convolution with stride 1 .* Choose other blocks: by default",
        ),
        (
            lambda: CT(nn.Conv2d(48, 48, 3), nn.BatchNorm2d(48), frames=4),
            "CT needs a power of two of channels, at least 16, got 48",
        ),
        (
            lambda: CT(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), frames=4),
            "CT needs a power of two of channels, at least 16, got 8",
        ),
        (
            lambda: BigView(nn.Conv2d(8, 8, 3), BatchNormAct2d(8), frames=4),
            "BigView replaces a BatchNorm2d, but this backbone has a BatchNormAct2d there",
        ),
        (
            lambda: BigView(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), frames=4, window="clips"),
            "Unknown BigView window 'clips'. Did you mean 'clip'",
        ),
        (lambda: MaxGate(8, frames=4, reduction=9), "reduction=9 leaves no channel of 8"),
        (
            lambda: GTE(nn.Conv2d(8, 8, 3), frames=4, kernel=4),
            "GTE kernel must be odd and at least 3, got 4",
        ),
        (lambda: TIM(8, frames=4, kernel=4), "kernel must be odd and at least 3, got 4"),
        (lambda: TIM(8, frames=4, init="partshift"), "Did you mean 'part_shift'"),
        (
            lambda: NonLocal(8, frames=4, mode="dot"),
            "Unknown non-local mode 'dot'. Valid are: dot_product",
        ),
        (lambda: MTA(GROUPS, frames=4, init="half_shft"), "Unknown MTA init .* 'half_shift'"),
        (
            lambda: GSF(nn.Conv2d(8, 8, 3), frames=4, ratio=101),
            "GSF ratio must be between 1 and 100, got 101",
        ),
        (
            lambda: GSF(nn.Conv2d(8, 24, 3), frames=4, ratio=25),
            "GSF needs a multiple of 4 gated channels, but ratio=25 gates 6 of 24",
        ),
        (
            lambda: GSF(nn.Conv2d(8, 24, 3), frames=4, ratio=1),
            "GSF needs a multiple of 4 gated channels, but ratio=1 gates 0 of 24",
        ),
        (
            lambda: MotionSqueeze(8, frames=4, radius=0),
            "MotionSqueeze radius must be at least 1, got 0",
        ),
        (lambda: TDM(8, frames=4), "reduction=16 leaves no channel of 8"),
        (lambda: ACTION(8, frames=4), "reduction=16 leaves no channel of 8"),
        (lambda: TIM(8, frames=0), "frames must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_named(build, message):
    with pytest.raises(OptionError, match=message):
        build()


def test_names_are_found_and_near_misses_named():
    assert {"tsm", "tim"} <= set(list_temporal())
    assert temporal_named("tim").options == ("init", "divisor", "kernel", "causal")
    with pytest.raises(UnknownNameError, match="Did you mean 'tsm'"):
        temporal_named("tsmm")
    assert position_named("b") == "after_conv1"
    with pytest.raises(UnknownNameError, match="Did you mean 'after_conv1'"):
        position_named("after_conv_1")


def test_a_name_cannot_be_taken_twice():
    class Other(TemporalModule):
        def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
            return x_NCHW

    with pytest.raises(OptionError, match="'tim' already belongs to TIM"):
        register("tim", at="before_conv1")(Other)
    with pytest.raises(OptionError, match="Other cannot replace a convolution"):
        Other.from_conv(torch.nn.Conv2d(1, 1, 1), frames=2)


def test_frames_can_change_unless_weights_depend_on_them():
    tim = TIM(8, frames=4)
    tim.set_frames(6)
    assert tim(torch.randn(6, 8, 2, 2)).shape == (6, 8, 2, 2)
    tim.frames_in_weights = True
    with pytest.raises(OptionError, match="built for 6 frames .* cannot run 16"):
        tim.set_frames(16)


class Halves(TemporalModule):
    """A user's gate: every channel times 1/2."""

    def __init__(self) -> None:
        super().__init__(frames=4, look_back=0, look_ahead=0)

    def forward(self, x_NCHW):
        return gate(x_NCHW, self.gate_factors(x_NCHW))

    def gate_factors(self, x_NCHW):
        return torch.full(x_NCHW.shape[:2], 0.5)


class Doubles(TemporalModule):
    """A user's module that folds a gate and counts it."""

    folded = 0

    def __init__(self) -> None:
        super().__init__(frames=4, look_back=0, look_ahead=0)

    def forward(self, x_NCHW):
        return 2 * x_NCHW

    def fold_gate(self, x_NCHW, factors_NC):
        self.folded += 1
        return x_NCHW * (2 * factors_NC[:, :, None, None])


@pytest.mark.parametrize("first", [Halves(), MEM(8, frames=4)])
@pytest.mark.parametrize("second", [Doubles(), TIM(8, frames=4, init="random"), TSM(8, frames=4)])
def test_a_gate_in_front_of_a_module_equals_both_in_turn(first, second):
    x = torch.randn(8, 8, 3, 3).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        got, wanted = run_in_order([first, second], x), second(first(x))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_modules_with_hooks_run_one_by_one():
    first, second, x = Halves(), Doubles(), torch.randn(8, 8, 3, 3)
    run_in_order([first, second], x)
    assert second.folded == 1
    seen = []
    with first.register_forward_hook(lambda module, inputs, output: seen.append(output)):
        assert torch.equal(run_in_order([first, second, first], x), x / 2)
    assert torch.equal(seen[0], x / 2)
    assert (len(seen), second.folded) == (2, 1)
