"""Temporal modules frame by frame: the same as the causal module on the whole video."""

import pytest
import torch
from torch import nn

from kinema import temporal
from kinema.errors import InputShapeError, OptionError
from kinema.temporal import TemporalModule
from kinema.temporal.memory import Memory

from ...random_weights import randomized

CHANNELS, FRAMES = 32, 9
# In float64, apart from the means that ME and SME take in float32.
ROUNDING = {"rtol": 1e-5, "atol": 3e-6}


def group_convs(*, first: bool) -> nn.Module:
    """The convolutions that MTA replaces; the first block of a stage has a stride."""
    group = nn.Module()
    group.width, group.first = CHANNELS // 4, first
    width, stride = group.width, 2 if first else 1
    group.convs = nn.ModuleList(nn.Conv2d(width, width, 3, stride, 1) for _ in range(3))
    group.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(3))
    group.act = nn.ReLU(inplace=True)
    group.pool = nn.AvgPool2d(3, stride, 1) if first else nn.Identity()
    return group


def conv(stride: int = 1, groups: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(CHANNELS, CHANNELS, 3, stride, 1, groups=groups, bias=bias)


HOW = {"frames": 5, "causal": True}
MODULES = {
    "tsm": lambda: temporal.TSM(CHANNELS, **HOW),
    "tsm-all": lambda: temporal.TSM(CHANNELS, divisor=1, **HOW),
    "tim": lambda: temporal.TIM(CHANNELS, **HOW),
    "tim-5": lambda: temporal.TIM(CHANNELS, kernel=5, **HOW),
    "tconv": lambda: temporal.TemporalConv(CHANNELS, **HOW),
    "tpool-5": lambda: temporal.TemporalPool(CHANNELS, kernel=5, **HOW),
    "c3d": lambda: temporal.Inflated(conv(stride=2, groups=2, bias=True), **HOW),
    "gst": lambda: temporal.GST(conv(stride=2), **HOW),
    "gst-large": lambda: temporal.GST(conv(), beta=1, **HOW),
    "gte": lambda: temporal.GTE(conv(stride=2), **HOW),
    "gte-depthwise": lambda: temporal.GTE(conv(), lts="depthwise", **HOW),
    "gte-kernel-5": lambda: temporal.GTE(conv(stride=2), kernel=5, **HOW),
    "gte-lts": lambda: temporal.GTE(conv(stride=2), conv2d=False, **HOW),
    "stm": lambda: temporal.STM(conv(stride=2), **HOW),
    "gsm": lambda: temporal.GSM(CHANNELS, **HOW),
    "gsf": lambda: temporal.GSF(conv(stride=2), **HOW),
    "gsf-half": lambda: temporal.GSF(conv(), ratio=50, **HOW),
    "ms": lambda: temporal.MotionSqueeze(CHANNELS, radius=2, **HOW),
    "action": lambda: temporal.ACTION(CHANNELS, **HOW),
    "se": lambda: temporal.SE(CHANNELS, **HOW),
    "mem": lambda: temporal.MEM(CHANNELS, **HOW),
    "tdm": lambda: temporal.TDM(CHANNELS, **HOW),
    "me": lambda: temporal.ME(CHANNELS, **HOW),
    "me-both": lambda: temporal.ME(CHANNELS, transform="both", **HOW),
    "mta": lambda: temporal.MTA(group_convs(first=False), **HOW),
    "mta-first": lambda: temporal.MTA(group_convs(first=True), **HOW),
    "sme": lambda: temporal.SME(CHANNELS, **HOW),
    "sme-plain": lambda: temporal.SME(CHANNELS, alignment=False, channel_attention=False, **HOW),
    "cti": lambda: temporal.CTI(CHANNELS, **HOW),
    "tsi": lambda: temporal.TSI(CHANNELS, **HOW),
    "tsi-sum": lambda: temporal.TSI(CHANNELS, fusion="sum", **HOW),
    "tsi-concat": lambda: temporal.TSI.from_conv(conv(), frames=5, causal=True, fusion="concat"),
    "tam": lambda: temporal.TAM(CHANNELS, **HOW),
    "tam-wide": lambda: temporal.TAM(CHANNELS, kernel=7, window=3, **HOW),
    "tam-reverse": lambda: temporal.TAM(CHANNELS, reverse=True, **HOW),
    "tam-global": lambda: temporal.TAM(CHANNELS, branches="global", **HOW),
    "tam-local": lambda: temporal.TAM(CHANNELS, branches="local", **HOW),
    "tam-se": lambda: temporal.TAM(CHANNELS, branches="global_se", **HOW),
}
modules = pytest.mark.parametrize("module", MODULES, indirect=True)


@pytest.fixture
def module(request) -> TemporalModule:
    """With random weights and statistics; default norms would hide mistakes."""
    return randomized(MODULES[request.param]()).double()


def videos(count: int = 2) -> torch.Tensor:
    """(B, T, C, 5, 3) whose frames differ in detail and in their means."""
    x = torch.randn(count, FRAMES, CHANNELS, 5, 3) + torch.randn(count, FRAMES, CHANNELS, 1, 1)
    return x.double()


@torch.no_grad()
def whole(module: TemporalModule, x_BTCHW: torch.Tensor) -> torch.Tensor:
    module.set_frames(x_BTCHW.shape[1])
    return module(x_BTCHW.flatten(0, 1)).unflatten(0, x_BTCHW.shape[:2])


@torch.no_grad()
def streamed(module, x_BTCHW, sizes, step=None) -> torch.Tensor:
    """The module's output in steps of several frames."""
    step, state, outputs = step or type(module).step, (), []
    for chunk in x_BTCHW.split(sizes, 1):
        memory = Memory(state, frames=chunk.shape[1])
        y = step(module, chunk.flatten(0, 1), memory)
        outputs.append(y.unflatten(0, chunk.shape[:2]))
        state = memory.state()
    return torch.cat(outputs, 1)


@modules
@pytest.mark.parametrize("sizes", [[1] * FRAMES, [2, 1, 4, 2], [FRAMES]], ids=str)
def test_steps_equal_the_whole_video(module, sizes):
    x = videos()
    expected = whole(module, x)
    torch.testing.assert_close(streamed(module, x, sizes), expected, **ROUNDING)


@modules
@pytest.mark.parametrize("sizes", [[1] * FRAMES, [2, 1, 4, 2]], ids=str)
def test_the_default_step_is_right_for_every_causal_module(module, sizes):
    x = videos()
    expected = whole(module, x)
    module.set_frames(1)
    got = streamed(module, x, sizes, TemporalModule.step)
    torch.testing.assert_close(got, expected, **ROUNDING)
    assert module.frames == 1


@modules
@pytest.mark.parametrize("default", [False, True])
@torch.no_grad()
def test_zeros_in_a_row_of_the_state_start_that_stream_anew(module, default):
    module.set_frames(1)
    x, state, outputs = videos(2), (), []
    for t in range(FRAMES):
        if t == 4:
            state = tuple(torch.cat([kept[:1], torch.zeros_like(kept[1:])]) for kept in state)
        memory = Memory(state)
        step = TemporalModule.step if default else type(module).step
        outputs.append(step(module, x[:, t], memory))
        state = memory.state()
    got = torch.stack(outputs, 1)
    torch.testing.assert_close(got[:1], whole(module, x[:1]), **ROUNDING)
    torch.testing.assert_close(got[1:, :4], whole(module, x[1:, :4]), **ROUNDING)
    torch.testing.assert_close(got[1:, 4:], whole(module, x[1:, 4:]), **ROUNDING)


@modules
@torch.no_grad()
def test_the_state_survives_that_the_input_is_overwritten(module):
    x, state, outputs = videos(), (), []
    expected = whole(module, x)
    module.set_frames(1)
    for t in range(FRAMES):
        memory, frame = Memory(state), x[:, t].clone()
        outputs.append(module.step(frame, memory))
        frame.fill_(float("nan"))
        state = memory.state()
    torch.testing.assert_close(torch.stack(outputs, 1), expected, **ROUNDING)


def test_the_shift_remembers_only_the_shifted_channels():
    memory = Memory()
    temporal.TSM(16, frames=1, causal=True).step(torch.randn(3, 16, 5, 3), memory)
    (kept,) = memory.state()
    assert kept.shape == (3, 2, 5, 3)
    assert kept.untyped_storage().nbytes() == kept.numel() * kept.element_size()


def test_channels_last_frames_stay_so_in_steps_of_several_frames():
    x = torch.randn(6, 8, 5, 3).contiguous(memory_format=torch.channels_last)
    delayed = Memory(frames=3).delay(x)
    assert delayed.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(delayed[[1, 2, 4, 5]], x[[0, 1, 3, 4]], rtol=0, atol=0)
    assert not delayed[[0, 3]].any()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            temporal.TSM(16, frames=4),
            r"TSM looks ahead \(frames: 1\).*causal=True.*kinema import --causal",
        ),
        (temporal.TAM(16, frames=4), r"TAM looks ahead \(the whole clip\)"),
        (
            temporal.TIN(16, frames=4),
            r"TIN looks ahead \(the whole clip\).*has no causal form.*such as tsm",
        ),
        (temporal.NonLocal(16, frames=4), r"NonLocal looks ahead \(the whole clip\)"),
    ],
)
def test_modules_that_look_ahead_say_what_to_do(module, message):
    with pytest.raises(OptionError, match=message):
        module.check_streaming()


class Own(TemporalModule):
    """A user's module that does not override `step`."""

    def __init__(self, look_back: int | None) -> None:
        super().__init__(frames=4, look_back=look_back, look_ahead=0, causal=True)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return x_NCHW


def test_a_module_of_which_no_window_is_enough_needs_its_own_step():
    Own(look_back=3).check_streaming()
    with pytest.raises(OptionError, match="depends on the whole past.*Implement its method `step`"):
        Own(look_back=None).check_streaming()
    with_weights = Own(look_back=3)
    with_weights.frames_in_weights = True
    with pytest.raises(OptionError, match="has T in its weights"):
        with_weights.check_streaming()


def test_a_state_that_does_not_fit_is_refused():
    x = torch.randn(2, 16, 5, 3)
    memory = Memory()
    tim = temporal.TIM(16, frames=1, causal=True)
    tim.step(x, memory)
    state = memory.state()
    with pytest.raises(InputShapeError, match="frames of another size"):
        tim.step(torch.randn(2, 16, 7, 3), Memory(state))
    with pytest.raises(InputShapeError, match="state of another network"):
        tim.step(x, Memory(state[:1]))
    longer = Memory((*state, *state))
    tim.step(x, longer)
    with pytest.raises(InputShapeError, match="The state has 4 tensors"):
        longer.state()
