"""Properties of the temporal modules that hold for any weights."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.models.res2net import Bottle2neck
from torch import nn

from kinema import temporal
from kinema.models.res2net import Res2NetBlock, ScaleConv
from kinema.temporal import TemporalModule, list_temporal, temporal_named
from kinema.temporal.base import takes_norm
from kinema.temporal.conv import init_temporal_kernel

from ...random_weights import randomized

CHANNELS, FRAMES = 32, 9
# In float64, apart from the means that ME and SME take in float32.
ROUNDING = {"rtol": 1e-5, "atol": 3e-6}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in list_temporal()),
    ("tim", {"kernel": 5}),
    ("gte", {"lts": "depthwise"}),
    ("mta", {"first": True}),
    ("sme", {"alignment": False, "channel_attention": False}),
    ("tsi", {"fusion": "sum"}),
    ("tsi", {"fusion": "concat"}),
    ("tam", {"kernel": 5}),
    ("tam", {"reverse": True}),
    ("bigview", {"window": "clip"}),
    *(("tam", {"branches": branches}) for branches in ("global", "local", "global_se")),
]


def case(name: str, options: dict[str, Any], causal: bool) -> Any:
    words = [name, *map(str, options.values()), *["causal"] * causal]
    return pytest.param(name, options | ({"causal": True} if causal else {}), id="-".join(words))


BOTH_WAYS = [case(*v, causal=False) for v in VARIANTS]
CAUSAL = [case(*v, causal=True) for v in VARIANTS if temporal_named(v[0]).module.has_causal_form]


def res2net_block(*, first: bool, stride: int = 1) -> Bottle2neck:
    downsample = nn.Conv2d(64, 64, 1, stride) if first else None
    return Bottle2neck(64, 16, stride, downsample, base_width=32, norm_layer=nn.BatchNorm2d)


def build(name: str, options: dict[str, Any], frames: int = FRAMES) -> TemporalModule:
    """A module of 32 channels with random weights and statistics, in float64."""
    entry, options = temporal_named(name), dict(options)
    if name == "mta":
        groups = ScaleConv(res2net_block(first=options.pop("first", False)))
        module = entry.module.from_conv(groups, frames=frames, **options)
    elif (entry.positions(options) or "")[0].startswith("replace"):
        conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        if takes_norm(entry.module):
            options["norm"] = nn.BatchNorm2d(CHANNELS)
        module = entry.module.from_conv(conv, frames=frames, **options)
    else:
        module = entry.build(CHANNELS, frames=frames, options=options)
    return randomized(module).double()


def clips(count: int, frames: int = FRAMES, channels: int = CHANNELS) -> torch.Tensor:
    """(B, T, C, 5, 3) whose frames differ in detail and in their means."""
    x = torch.randn(count, frames, channels, 5, 3)
    return x + torch.randn(count, frames, channels, 1, 1)


@torch.no_grad()
def run(module: nn.Module, x_BTCHW: torch.Tensor) -> torch.Tensor:
    return module(x_BTCHW.flatten(0, 1)).unflatten(0, x_BTCHW.shape[:2])


@pytest.mark.parametrize(("name", "options"), BOTH_WAYS + CAUSAL)
def test_a_changed_frame_changes_exactly_the_frames_in_reach(name, options):
    module = build(name, options)
    x = clips(1).double().repeat(FRAMES + 1, 1, 1, 1, 1) / 2  # no softmax saturates
    frames = torch.arange(FRAMES)
    x[frames, frames] += clips(1)[0]  # clip s differs from the last one in frame s
    y = run(module, x)
    changed = (y[:-1] - y[-1]).abs().amax((2, 3, 4)) > ROUNDING["atol"]
    later = frames - frames.unsqueeze(1)
    back = FRAMES if module.look_back is None else module.look_back
    ahead = FRAMES if module.look_ahead is None else module.look_ahead
    reached = (later <= back) & (-later <= ahead)
    if name == "ms" and not module.causal:  # only the last frame looks back, in place of ahead
        reached &= (later <= 0) | (frames == FRAMES - 1)
    assert changed.tolist() == reached.tolist()


@pytest.mark.parametrize(("name", "options"), CAUSAL)
def test_a_causal_module_does_not_see_the_future(name, options):
    module = build(name, options)
    assert module.look_ahead == 0
    x = clips(1).double().repeat(FRAMES, 1, 1, 1, 1)
    for t in range(FRAMES - 1):
        x[t, t + 1 :] = 10 * clips(1)[0, t + 1 :]
    y = run(module, x)
    for t in range(FRAMES):
        torch.testing.assert_close(y[t, : t + 1], y[-1, : t + 1], **ROUNDING)


@pytest.mark.parametrize(("name", "options"), BOTH_WAYS + CAUSAL)
def test_clips_of_a_batch_do_not_mix(name, options):
    module, x = build(name, options), clips(3).double()
    alone = torch.cat([run(module, clip) for clip in x.split(1)])
    torch.testing.assert_close(run(module, x), alone, **ROUNDING)


def reads_a_few_frames(name: str, options: dict[str, Any]) -> bool:
    module = build(name, options)
    return module.look_back is not None and module.look_ahead is not None


@pytest.mark.parametrize(
    ("name", "options"), [p for p in BOTH_WAYS + CAUSAL if reads_a_few_frames(*p.values)]
)
def test_moving_the_content_by_a_frame_moves_the_output(name, options):
    module = build(name, options, frames=4)  # causal TAM has weights for 4, and reads 4
    module.set_frames(FRAMES)
    x = clips(2, FRAMES + 1).double()
    early, late = run(module, x[:, :-1]), run(module, x[:, 1:])
    first, end = module.look_back, FRAMES - module.look_ahead
    assert first + 1 < end
    wanted = early[:, first + 1 : end]
    torch.testing.assert_close(late[:, first : end - 1], wanted, **ROUNDING)


@pytest.mark.parametrize("frames", [1, 2, 8])
@pytest.mark.parametrize("causal", [False, True])
def test_part_shift_is_tsm_to_the_bit(frames, causal):
    x = clips(2, frames, 21)
    tim, tsm = (module(21, frames=frames, causal=causal) for module in (temporal.TIM, temporal.TSM))
    assert torch.equal(run(tim, x), run(tsm, x))


@pytest.mark.parametrize("causal", [False, True])
def test_mem_copies_the_frame_without_a_partner_and_halves_with_zero_weights(causal):
    module, x = temporal.MEM(CHANNELS, frames=4, causal=causal), clips(2, 4)
    copied, gated = (0, slice(1, 4)) if causal else (3, slice(0, 3))
    assert torch.equal(run(module, x)[:, copied], x[:, copied])
    for weight in module.parameters():
        nn.init.zeros_(weight)
    y = run(module, x)
    assert torch.equal(y[:, copied], x[:, copied])
    assert torch.equal(y[:, gated], x[:, gated] / 2)


@pytest.mark.parametrize("transform", ["next", "both", "none"])
@pytest.mark.parametrize("gate_scale", [1.0, 2.0])
def test_me_without_expansion_is_the_identity(transform, gate_scale):
    module = randomized(temporal.ME(CHANNELS, frames=4, transform=transform, gate_scale=gate_scale))
    conv, norm = module.expand
    for tensor in (conv.weight, norm.bias, norm.running_mean):
        nn.init.zeros_(tensor)
    x = clips(2, 4)
    assert torch.equal(run(module, x), x)


def test_the_gate_of_mes_last_frame_is_a_constant_but_not_zero():
    module = randomized(temporal.ME(CHANNELS, frames=4))
    ratio = (run(module, x := clips(2, 4)) / x)[:, 3]
    torch.testing.assert_close(ratio, ratio[:1, :, :1, :1].expand_as(ratio), rtol=1e-4, atol=1e-4)
    assert (ratio - 1).abs().max() > 0.01


@pytest.mark.parametrize("frames", [1, 4])
def test_sme_that_keeps_features_starts_as_a_constant_gate(frames):
    module = temporal.SME(CHANNELS, frames=frames, keep_features=True)
    x = clips(2, frames)
    torch.testing.assert_close(run(module, x), 1.5 * x)


def test_cti_that_keeps_features_starts_near_separate_groups():
    torch.manual_seed(0)
    near = temporal.CTI(CHANNELS, frames=4, keep_features=True)
    x = clips(2, 4)
    separate = copy.deepcopy(near)
    for layer in separate.weigh:
        nn.init.constant_(layer.bias[: near.width], 1e4)
    half = copy.deepcopy(near)
    for layer in half.weigh:
        nn.init.constant_(layer.bias[: near.width], 0.0)
    wanted = run(separate, x)
    assert (run(near, x) - wanted).norm() < 0.1 * wanted.norm()
    assert (run(half, x) - wanted).norm() > 0.3 * wanted.norm()


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("frames", [2, 4, 5])
def test_opposed_kernels_of_tam_start_as_shifts_both_ways(frames, kernel):
    torch.manual_seed(0)
    module = temporal.TAM(CHANNELS, frames=frames, kernel=kernel, alpha=1, opposed=True)
    means_BC = torch.linspace(-2, 2, CHANNELS).expand(3, CHANNELS)
    _, kernels_BCTK = module.train().weights(means_BC.unsqueeze(2).expand(-1, -1, frames))
    middle, side = kernel // 2, kernel // 2 + 1
    back, ahead = kernels_BCTK[0, -1, 0], kernels_BCTK[0, 0, 0]
    assert back[:middle].sum() > 0.9
    assert ahead[side:].sum() > 0.9
    assert kernels_BCTK[0, CHANNELS // 2, 0].argmax() == middle


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("branches", ["both", "global", "global_se"])
def test_tams_kernels_weigh_and_its_gates_are_open_in_part(branches, causal):
    module = randomized(
        temporal.TAM(CHANNELS, frames=6, kernel=5, branches=branches, causal=causal)
    )
    gate, kernels = module.double().weights(3 * torch.randn(2, CHANNELS, 6).double())
    assert kernels.shape == (2, CHANNELS, 6 if causal else 1, 5)
    torch.testing.assert_close(kernels.sum(3), torch.ones_like(kernels[..., 0]), rtol=0, atol=1e-6)
    assert kernels.gt(0).all()
    assert (gate is None) == (branches == "global")
    if gate is not None:
        assert gate.gt(0).all()
        assert gate.lt(1).all()


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("branches", ["both", "global"])
def test_tam_equals_one_convolution_with_a_group_for_every_channel_of_every_clip(kernel, branches):
    module = randomized(temporal.TAM(CHANNELS, frames=6, kernel=kernel, branches=branches))
    x_BCTS = clips(2, 6).transpose(1, 2).flatten(3)
    gate, kernels = module.weights(x_BCTS.mean(3))
    gated = x_BCTS if gate is None else x_BCTS * gate[..., None]
    rows, weight = gated.reshape(1, -1, 6, 15), kernels.reshape(-1, 1, kernel, 1)
    grouped = F.conv2d(rows, weight, padding=(kernel // 2, 0), groups=len(weight))
    got = run(module, x_BCTS.unflatten(3, (5, 3)).transpose(1, 2))
    wanted = grouped.reshape(2, CHANNELS, 6, 5, 3).transpose(1, 2)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("tap", "offset"), [(0, -1), (1, 0), (2, 1)])
def test_tam_with_one_open_tap_and_open_gates_is_a_shift(tap, offset):
    module = temporal.TAM(CHANNELS, frames=5).eval()
    for branch in (module.global_branch, module.local_branch):
        nn.init.zeros_(branch[1].weight)
        nn.init.ones_(branch[1].bias)
        nn.init.constant_(branch[3].weight, 100)
    with torch.no_grad():
        module.global_branch[3].weight[[k for k in range(3) if k != tap]] = 0
    x = clips(2, 5)
    padded = F.pad(x, (0, 0) * 3 + (1, 1))
    assert torch.equal(run(module, x), padded[:, 1 + offset : 6 + offset])


def test_tam_with_constant_kernels_moves_with_the_content():
    module = randomized(temporal.TAM(CHANNELS, frames=FRAMES))
    nn.init.zeros_(module.global_branch[0].weight)
    x = clips(2, FRAMES + 1)
    early, late = run(module, x[:, :-1]), run(module, x[:, 1:])
    torch.testing.assert_close(late[:, 2:-3], early[:, 3:-2], rtol=1e-5, atol=1e-6)


def test_cti_that_takes_nothing_repeats_the_first_group_convolved_on():
    module = randomized(temporal.CTI(CHANNELS, frames=6))
    open_towards(module, -1e6)
    x = clips(2, 6)
    wanted = [x[:, :, :8]]
    for shift in module.shifts:
        wanted.append(shift(wanted[-1].flatten(0, 1)).unflatten(0, (2, 6)))
    torch.testing.assert_close(run(module, x), torch.cat(wanted, 2), rtol=1e-6, atol=1e-6)


def test_cti_that_takes_everything_convolves_each_group_by_itself():
    module = randomized(temporal.CTI(CHANNELS, frames=6))
    open_towards(module, 1e6)
    tim = temporal.TIM(CHANNELS, frames=6, init="identity")
    with torch.no_grad():
        tim.weight[8:] = torch.cat([shift.weight for shift in module.shifts])
    x = clips(2, 6)
    torch.testing.assert_close(run(module, x), run(tim, x), rtol=1e-6, atol=1e-6)


@torch.no_grad()
def open_towards(cti: temporal.CTI, value: float) -> None:
    """Makes u - v of every channel `value`."""
    for weigh in cti.weigh:
        weigh.weight.zero_()
        weigh.bias[:8], weigh.bias[8:] = value / 2, -value / 2


@pytest.mark.parametrize("causal", [False, True])
def test_plain_sme_differs_from_me_only_by_the_gate(causal):
    me = randomized(temporal.ME(CHANNELS, frames=4, causal=causal))
    sme = temporal.SME(CHANNELS, frames=4, pyramid=0, alignment=False, causal=causal).eval()
    renamed = {n.replace("transform", "pyramid.0"): w for n, w in me.state_dict().items()}
    sme.load_state_dict(renamed)
    x = clips(2, 4)
    torch.testing.assert_close(run(sme, x), run(me, x) + x / 2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("alpha", "beta", "groups"), [(2, 2, 2), (4, 1, 1)])
def test_gst_that_reads_no_other_frame_is_a_grouped_convolution(alpha, beta, groups):
    conv = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1, bias=False)
    module = temporal.GST(conv, frames=4, alpha=alpha, beta=beta)
    with torch.no_grad():
        module.temporal[:, :, [0, 2]] = 0
        weight = torch.cat([module.spatial.weight, module.temporal[:, :, 1]])
        x = clips(2, 4).flatten(0, 1)
        wanted = F.conv2d(x, weight, stride=2, padding=1, groups=groups)
        torch.testing.assert_close(module(x), wanted, rtol=1e-5, atol=1e-5)


def test_gte_starts_by_moving_an_eighth_each_way():
    conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight)
    x = clips(2, 5)
    y, padded = run(temporal.GTE(conv, frames=5), x), F.pad(x, (0, 0) * 3 + (1, 1))
    assert torch.equal(y[:, :, :16], x[:, :, :16])
    assert torch.equal(y[:, :, 24:28], padded[:, 2:, 24:28])
    assert torch.equal(y[:, :, 28:], padded[:, :-2, 28:])


@pytest.mark.parametrize(("first", "stride"), [(False, 1), (True, 1), (True, 2)])
def test_mta_that_moves_nothing_is_res2net(first, stride):
    plain = randomized(res2net_block(first=first, stride=stride))
    block = Res2NetBlock(plain)
    block.conv2 = temporal.MTA(block.conv2, frames=4)
    for shift in block.conv2.shifts:
        init_temporal_kernel(shift.weight, "identity")
    x = clips(2, 4, 64).flatten(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(block.eval()(x), plain(x), rtol=1e-5, atol=1e-5)
