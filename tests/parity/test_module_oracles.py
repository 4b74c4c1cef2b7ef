"""Every temporal module against its slow form, weights and statistics drawn at random.

Outputs and gradients in float64, so that a difference is a mistake and not rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import torch
from timm.models.res2net import Bottle2neck
from torch import nn

from kinema import temporal
from kinema.errors import OptionError
from kinema.models.res2net import ScaleConv
from kinema.temporal import TemporalModule, list_temporal, temporal_named

from ..random_weights import randomized
from . import oracles

CHANNELS = 32
EXACT = {"rtol": 1e-9, "atol": 1e-10}
# ME and SME take spatial means in float32 whatever the input, to keep a small difference of two
# half-precision means. In training the norm divides that rounding by the spread of the motion.
MEANS_IN_FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}


@dataclass(frozen=True)
class Case:
    """A module and its oracle: options of both, of either, and what convolution is replaced."""

    module: type[TemporalModule]
    oracle: Callable[..., torch.Tensor]
    both: dict[str, Any] = field(default_factory=dict)
    module_only: dict[str, Any] = field(default_factory=dict)
    oracle_only: dict[str, Any] = field(default_factory=dict)
    conv: Callable[[], nn.Module] | None = None
    norm: Callable[[], nn.Module] | None = None
    channels: int = CHANNELS
    tolerance: dict[str, float] = field(default_factory=lambda: EXACT)

    @property
    def has_causal_form(self) -> bool:
        return self.module.has_causal_form

    def build(self, frames: int, causal: bool) -> TemporalModule:
        options = self.both | self.module_only | ({"causal": True} if causal else {})
        if self.conv is None:
            return self.module(self.channels, frames=frames, **options)
        norm = {} if self.norm is None else {"norm": self.norm()}
        return self.module.from_conv(self.conv(), frames=frames, **norm, **options)

    def expected(self, x: torch.Tensor, w: oracles.Weights, causal: bool) -> torch.Tensor:
        options = self.both | self.oracle_only | ({"causal": True} if causal else {})
        return self.oracle(x, w, **options)


def replaced(
    module: type[TemporalModule],
    oracle: Callable,
    *,
    stride: int = 1,
    outputs: int = 48,
    **how: Any,
) -> Case:
    """The module in place of a 3 x 3 convolution."""
    conv = partial(nn.Conv2d, CHANNELS, outputs, 3, stride, 1, bias=False)
    return Case(module, oracle, oracle_only={"stride": stride}, conv=conv, **how)


def res2net_groups(*, first: bool, stride: int = 1) -> ScaleConv:
    """The group of convolutions of a Res2Net block, 6 channels in each."""
    downsample = nn.Identity() if first else None
    block = Bottle2neck(8, 16, stride, downsample, base_width=26, norm_layer=nn.BatchNorm2d)
    return ScaleConv(block)


def inflated(*, stride: int = 1, **how: Any) -> Case:
    conv = partial(nn.Conv2d, CHANNELS, 48, stride=stride, **how)
    both = {name: how[name] for name in ("padding", "groups") if name in how}
    return Case(
        temporal.Inflated, oracles.inflated, oracle_only={"stride": stride, **both}, conv=conv
    )


def mta(**how: Any) -> Case:
    conv = partial(res2net_groups, **how)
    return Case(temporal.MTA, oracles.mta, oracle_only=how, conv=conv, channels=24)


def me(**both: Any) -> Case:
    return Case(temporal.ME, oracles.me, both=both, tolerance=MEANS_IN_FLOAT32)


def sme(**both: Any) -> Case:
    return Case(temporal.SME, oracles.sme, both=both, tolerance=MEANS_IN_FLOAT32)


def tam(**both: Any) -> Case:
    return Case(temporal.TAM, oracles.tam, both=both)


CASES = {
    "tsm": Case(temporal.TSM, oracles.tsm),
    "tsm/divisor 3": Case(temporal.TSM, oracles.tsm, both={"divisor": 3}),
    "tim": Case(temporal.TIM, oracles.tim),
    "tim/kernel 5": Case(temporal.TIM, oracles.tim, module_only={"kernel": 5}),
    "tconv": Case(temporal.TemporalConv, oracles.tconv),
    "tconv/kernel 5": Case(temporal.TemporalConv, oracles.tconv, module_only={"kernel": 5}),
    "tpool": Case(temporal.TemporalPool, oracles.tpool),
    "tpool/kernel 5": Case(temporal.TemporalPool, oracles.tpool, both={"kernel": 5}),
    "se": Case(temporal.SE, oracles.se),
    "se/no bias": Case(temporal.SE, oracles.se, module_only={"bias": False, "reduction": 4}),
    "mem": Case(temporal.MEM, oracles.mem),
    "mem/reduction 5": Case(temporal.MEM, oracles.mem, module_only={"reduction": 5}),
    "me": me(),
    "me/both": me(transform="both"),
    "me/none": me(transform="none"),
    "me/paper's gate": me(gate_scale=2.0),
    "tdm": Case(temporal.TDM, oracles.tdm),
    "tdm/reduction 5": Case(temporal.TDM, oracles.tdm, module_only={"reduction": 5}),
    "mta": mta(first=False),
    "mta/part shift": replace(mta(first=False), module_only={"init": "part_shift"}),
    "mta/identity": replace(mta(first=True), module_only={"init": "identity"}),
    "mta/first": mta(first=True),
    "mta/first, stride 2": mta(first=True, stride=2),
    "gst": replaced(temporal.GST, oracles.gst),
    "gst/stride 2": replaced(temporal.GST, oracles.gst, stride=2),
    "gst/large": replaced(temporal.GST, oracles.gst, both={"beta": 1}),
    "gst/alpha 7": replaced(temporal.GST, oracles.gst, module_only={"alpha": 7}),
    "gte": replaced(temporal.GTE, oracles.gte),
    "gte/stride 2": replaced(temporal.GTE, oracles.gte, stride=2),
    "gte/eighth": replaced(temporal.GTE, oracles.gte, module_only={"ratio": 1 / 8}),
    "gte/half": replaced(temporal.GTE, oracles.gte, module_only={"ratio": 1 / 2}),
    "gte/three quarters": replaced(
        temporal.GTE, oracles.gte, outputs=32, module_only={"ratio": 0.75}
    ),
    "gte/depthwise": replaced(temporal.GTE, oracles.gte, both={"lts": "depthwise"}),
    "gte/kernel 5": replaced(temporal.GTE, oracles.gte, module_only={"kernel": 5}),
    "gte/depthwise, kernel 5": replaced(
        temporal.GTE, oracles.gte, both={"lts": "depthwise"}, module_only={"kernel": 5}
    ),
    "gte/no conv2d": replaced(temporal.GTE, oracles.gte, stride=2, both={"conv2d": False}),
    "c3d": inflated(kernel_size=3, padding=1, bias=False),
    "c3d/stride 2": inflated(stride=2, kernel_size=3, padding=1, bias=False),
    "c3d/groups": inflated(stride=2, kernel_size=3, padding=1, bias=True, groups=4),
    "i3d": inflated(kernel_size=1, bias=False),
    "i3d/stride 2": inflated(stride=2, kernel_size=1, bias=True),
    "stm": replaced(temporal.STM, oracles.stm),
    "stm/stride 2": replaced(temporal.STM, oracles.stm, stride=2, module_only={"reduction": 8}),
    "sme": sme(),
    "sme/no pyramid": sme(pyramid=0),
    "sme/no alignment": sme(alignment=False),
    "sme/no channel attention": sme(channel_attention=False),
    "sme/neither": sme(alignment=False, channel_attention=False),
    "cti": Case(temporal.CTI, oracles.cti),
    "cti/two groups": Case(temporal.CTI, oracles.cti, both={"groups": 2}),
    "tsi": Case(temporal.TSI, oracles.tsi, tolerance=MEANS_IN_FLOAT32),
    "tsi/sum": Case(temporal.TSI, oracles.tsi, both={"fusion": "sum"}, tolerance=MEANS_IN_FLOAT32),
    "tsi/concat": Case(
        temporal.TSI,
        oracles.tsi,
        both={"fusion": "concat"},
        conv=partial(nn.Conv2d, CHANNELS, 48, 3, padding=1, bias=False),
        tolerance=MEANS_IN_FLOAT32,
    ),
    "tam": tam(),
    "tam/kernel 5": tam(kernel=5),
    "tam/reverse": tam(reverse=True),
    "tam/reverse, kernel 5": tam(reverse=True, kernel=5),
    "tam/global": tam(branches="global"),
    "tam/local": tam(branches="local"),
    "tam/global_se": tam(branches="global_se"),
    "tam/alpha 4, beta 8": Case(temporal.TAM, oracles.tam, module_only={"alpha": 4, "beta": 8}),
    "nl": Case(temporal.NonLocal, oracles.nonlocal_block),
    "nl/no bias": Case(temporal.NonLocal, oracles.nonlocal_block, module_only={"out_bias": False}),
    "nl/gaussian": Case(temporal.NonLocal, oracles.nonlocal_block, both={"mode": "gaussian"}),
    "nl/dot product": Case(temporal.NonLocal, oracles.nonlocal_block, both={"mode": "dot_product"}),
    "tin": Case(temporal.TIN, oracles.tin),
    "ms": Case(temporal.MotionSqueeze, oracles.motion_squeeze),
    "ms/radius 2": Case(temporal.MotionSqueeze, oracles.motion_squeeze, both={"radius": 2}),
    "gsm": Case(temporal.GSM, oracles.gsm),
    "gsf": replaced(temporal.GSF, oracles.gsf),
    "gsf/stride 2": replaced(temporal.GSF, oracles.gsf, stride=2, both={"ratio": 25}),
    "gsf/rounded up": replaced(temporal.GSF, oracles.gsf, both={"ratio": 23}),
    "action": Case(temporal.ACTION, oracles.action),
    "action/reduction 5": Case(temporal.ACTION, oracles.action, module_only={"reduction": 5}),
    "ctnet": Case(
        temporal.CT,
        oracles.ct,
        conv=partial(nn.Conv2d, CHANNELS, CHANNELS, 3, padding=1),
        norm=partial(nn.BatchNorm2d, CHANNELS),
    ),
    "bigview": replaced(temporal.BigView, oracles.bigview, norm=partial(nn.BatchNorm2d, 48)),
    "bigview/clip, stride 2": replaced(
        temporal.BigView,
        oracles.bigview,
        stride=2,
        both={"window": "clip"},
        norm=partial(nn.BatchNorm2d, 48),
    ),
    "maxgate": Case(temporal.MaxGate, oracles.maxgate),
    "maxgate/reduction 5": Case(temporal.MaxGate, oracles.maxgate, module_only={"reduction": 5}),
}
FORMS = [
    pytest.param(case, causal, id=f"{name}{'-causal' * causal}")
    for name, case in CASES.items()
    for causal in (False, True)
    if case.has_causal_form or not causal
]
form = pytest.mark.parametrize(("case", "causal"), FORMS)


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


def clips(frames: int, channels: int) -> torch.Tensor:
    """Two clips whose frames differ in detail and in their means."""
    x = torch.randn(2, frames, channels, 5, 7) + torch.randn(2, frames, channels, 1, 1)
    return x.double()


def run(module: nn.Module, x: torch.Tensor, memory: torch.memory_format) -> torch.Tensor:
    y = module(x.flatten(0, 1).contiguous(memory_format=memory))
    return y.unflatten(0, x.shape[:2])


@form
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_module_equals_its_oracle(case, causal, frames):
    module = randomized(case.build(frames, causal)).double()
    x = clips(frames, case.channels)
    memory = torch.channels_last if frames == 2 else torch.contiguous_format
    with torch.no_grad():
        wanted = case.expected(x, tensors_of(module), causal)
        torch.testing.assert_close(run(module, x, memory), wanted, **case.tolerance)


@form
def test_gradients_equal_the_oracles(case, causal):
    module = randomized(case.build(5, causal)).double()
    x = clips(5, case.channels).requires_grad_()
    wanted = case.expected(x, tensors_of(module), causal)
    got = run(module, x, torch.channels_last)
    grad, inputs = torch.randn_like(wanted), [x, *module.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(got, inputs, grad),
        torch.autograd.grad(wanted, inputs, grad, materialize_grads=True, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, **case.tolerance)


def has_norm(module: nn.Module) -> bool:
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())


@pytest.mark.parametrize(
    ("case", "causal"), [p for p in FORMS if has_norm(p.values[0].build(5, p.values[1]))]
)
def test_norms_use_the_batch_in_training(case, causal):
    module = randomized(case.build(5, causal)).double().train()
    x = clips(5, case.channels)
    without_statistics = {n: w for n, w in tensors_of(module).items() if "running" not in n}
    with torch.no_grad():
        wanted = case.expected(x, without_statistics, causal)
        got = run(module, x, torch.contiguous_format)
    torch.testing.assert_close(got, wanted, **case.tolerance)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("divisor", [4, 8])
@pytest.mark.parametrize(
    "init", ["part_shift", "fixed_shift", "identity", "half_shift", "quarter_shift"]
)
@pytest.mark.parametrize(("frames", "kernel"), [(1, 3), (2, 3), (5, 3), (5, 5)])
def test_initial_tim_moves_channels(init, divisor, causal, frames, kernel):
    module = temporal.TIM(
        20, frames=frames, init=init, divisor=divisor, kernel=kernel, causal=causal
    )
    x = torch.randn(2, frames, 20, 3, 2)
    wanted = oracles.moved(x, oracles.offsets(init, 20, divisor=divisor, causal=causal))
    assert torch.equal(run(module, x, torch.contiguous_format), wanted)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("case", "part", "init"),
    [
        ("mta", "shifts.0", "identity"),
        ("mta", "shifts.2", "identity"),
        ("mta", "shifts.3", "half_shift"),
        ("mta/part shift", "shifts.0", "part_shift"),
        ("mta/part shift", "shifts.3", "part_shift"),
        ("mta/identity", "shifts.3", "identity"),
        ("cti", "shifts.0", "part_shift"),
        ("cti", "shifts.2", "part_shift"),
        ("stm", "shift", "quarter_shift"),
        ("action", "shift", "part_shift"),
    ],
)
def test_temporal_parts_start_as_shifts(case, part, init, causal):
    weight = CASES[case].build(4, causal).get_submodule(part).weight
    x = torch.randn(2, 4, len(weight), 3, 2)
    wanted = oracles.moved(x, oracles.offsets(init, len(weight), causal=causal))
    assert torch.equal(oracles.depthwise(x, weight, causal=causal), wanted)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("ratio", [1 / 8, 1 / 4, 1 / 2, 0.75])
def test_gtes_shift_starts_by_moving_one_channel_to_each_output(ratio, kernel, causal):
    count = int(ratio * 32)
    conv = nn.Conv2d(32, 32, 3, padding=1, bias=False)
    weight = temporal.GTE(conv, frames=4, ratio=ratio, kernel=kernel, causal=causal).lts
    sources = [16 - count + o if count <= 16 else o % 16 for o in range(count)]
    reads = [-1] * count if causal else oracles.offsets("half_shift", count)
    x = torch.randn(2, 4, 16, 3, 2)
    got = oracles.dense(x, weight.unsqueeze(-1), causal=causal)
    assert torch.equal(got, oracles.moved(x[:, :, sources], reads))


def test_replaced_convolutions_start_from_their_weight():
    weight = torch.randn(48, 32, 3, 3)
    conv = nn.Conv2d(32, 48, 3, padding=1, bias=False)
    conv.weight = nn.Parameter(weight)
    gst, large = (temporal.GST(conv, frames=2, alpha=4, beta=beta) for beta in (2, 1))
    assert torch.equal(gst.spatial.weight, weight[:36, :16])
    assert torch.equal(large.spatial.weight, weight[:36])
    gte, deep = temporal.GTE(conv, frames=2), temporal.GTE(conv, frames=2, lts="depthwise")
    assert torch.equal(gte.spatial.weight, weight[:36, :16])
    assert torch.equal(gte.conv2d.weight, weight[36:, 20:])
    assert torch.equal(deep.conv2d.weight, weight[36:, 16:])
    torch.testing.assert_close(
        temporal.Inflated(conv, frames=2).weight.sum(2), weight, rtol=1e-6, atol=1e-6
    )
    assert torch.equal(temporal.STM(conv, frames=2).conv.weight, weight)
    wide = temporal.TSI.from_conv(conv, frames=2, fusion="concat").widened.weight
    assert torch.equal(wide[:, :32], weight / 2)
    assert torch.equal(wide[:, 32:], weight / 2)


@pytest.mark.parametrize(("built_for", "frames"), [(4, 7), (6, 3), (1, 4)])
@pytest.mark.parametrize("branches", ["both", "global", "global_se"])
def test_causal_tam_keeps_its_window_when_the_clip_changes(built_for, frames, branches):
    module = temporal.TAM(CHANNELS, frames=built_for, branches=branches, causal=True)
    module = randomized(module).double()
    module.set_frames(frames)
    x = clips(frames, CHANNELS)
    options = {"window": built_for, "branches": branches, "causal": True}
    with torch.no_grad():
        wanted = oracles.tam(x, tensors_of(module), **options)
        torch.testing.assert_close(run(module, x, torch.contiguous_format), wanted, **EXACT)


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=n) for n, c in CASES.items() if not c.has_causal_form]
)
def test_a_module_that_needs_the_whole_clip_refuses_to_be_causal(case):
    with pytest.raises(OptionError, match="has no causal form"):
        case.build(4, causal=True)


def test_no_module_is_forgotten():
    assert {temporal_named(name).module for name in list_temporal()} == {
        case.module for case in CASES.values()
    }
