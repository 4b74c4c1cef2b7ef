"""One tester over every network with a causal form: frame by frame equals the whole video."""

import io
from itertools import pairwise

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kinema import create_model
from kinema.errors import InputShapeError, OptionError
from kinema.inference.fold import fold_batch_norms
from kinema.inference.fuse import can_fuse, fuse_convolutions
from kinema.models.network import VideoNetwork
from kinema.models.streaming import step_graph
from kinema.models.zoo import list_models
from kinema.temporal import TemporalModule, register
from kinema.temporal import base as registry

from ..random_weights import NOT_CAUSAL

NAMES = [
    name
    for backbone in ("resnet18", "mobilenetv2_100")
    for name in list_models(f"*_{backbone}")
    if name.removesuffix(f"_{backbone}") not in NOT_CAUSAL
] + ["mta_res2net26_26w_4s", "tea_res2net50_26w_4s", "tsm_resnet50", "tim_shufflenet_v2_x1_0"]
QUICK = ("tsn", "tsm", "tei", "tam", "tsi", "gst")
networks = pytest.mark.parametrize(
    "name",
    [
        name
        if name.endswith("_resnet18") and name.removesuffix("_resnet18") in QUICK
        else pytest.param(name, marks=pytest.mark.slow)
        for name in NAMES
    ],
)
needs_fused = pytest.mark.skipif(
    not can_fuse(torch.empty(1)), reason="this PyTorch has no fused convolutions"
)


def trained_like(name: str, *, frames: int = 4, **options) -> VideoNetwork:
    """A network whose norms do something: random scales and statistics of real activations."""
    torch.manual_seed(0)
    net = create_model(name, classes=7, frames=frames, causal=True, **options)
    nn.init.normal_(net.head.classifier.weight)
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
    for _, module in net.temporal_modules():  # as trained: neither the identity nor a shift
        for parameter in module.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                part.momentum = 1.0  # or what MotionSqueeze adds stays too small to be seen
    with torch.no_grad():
        net.train()(video(2, net.frames))
    return net.eval()


def video(streams: int, frames: int, height: int = 58, width: int = 71) -> torch.Tensor:
    return torch.randn(streams, frames, 3, height, width)


def assert_same(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def each_frame(step, x_BTCHW: torch.Tensor) -> torch.Tensor:
    return torch.stack([step(frames) for frames in x_BTCHW.unbind(1)], 1)


@networks
@torch.inference_mode()
def test_frame_by_frame_equals_the_whole_video(name):
    net, x = trained_like(name), video(2, 11)
    wanted = net.frame_scores(x)
    step = net.streaming(batch=2)
    assert_same(each_frame(step, x), wanted)
    step.reset()
    assert_same(torch.cat([step(part) for part in x.split([3, 1, 5, 2], 1)], 1), wanted)
    assert net.reach.look_ahead == 0
    if net.reach.look_back:  # it has to remember
        fresh, _ = step.advance(x[:, -1])
        assert (fresh - wanted[:, -1]).abs().max() > 1e-3 * wanted.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(f"{family}_resnet18" for family in QUICK), *NAMES[-4:]])
@torch.inference_mode()
def test_sixty_four_frames(name):
    net, x = trained_like(name, frames=8), video(1, 64, 39, 50)
    assert_same(each_frame(net.streaming(), x), net.frame_scores(x))


@pytest.mark.parametrize(
    "name", ["tei_resnet18", pytest.param("tea_res2net26_26w_4s", marks=pytest.mark.slow)]
)
@torch.inference_mode()
def test_streams_of_a_batch_start_at_different_times(name):
    net, x = trained_like(name), video(3, 9)
    step, outputs = net.streaming(batch=3), []
    starts = {2: [1], 5: [0, 1]}
    for t in range(9):
        step.reset(starts.get(t, []))
        outputs.append(step(x[:, t]))
    got = torch.stack(outputs, 1)
    for row, parts in enumerate(([0, 5, 9], [0, 2, 5, 9], [0, 9])):
        for first, end in pairwise(parts):
            wanted = net.frame_scores(x[row : row + 1, first:end])
            assert_same(got[row : row + 1, first:end], wanted)


@pytest.mark.parametrize("store", ["torch", "safetensors"])
@torch.inference_mode()
def test_a_stream_goes_on_from_a_saved_state(store):
    net, x = trained_like("tei_resnet18"), video(2, 6)
    step = net.streaming(batch=2)
    each_frame(step, x[:, :3])
    if store == "torch":
        file = io.BytesIO()
        torch.save(step.state, file)
        file.seek(0)
        state = torch.load(file)
    else:
        data = safetensors.torch.save({f"{i:03}": s.contiguous() for i, s in enumerate(step.state)})
        state = tuple(tensor for _, tensor in sorted(safetensors.torch.load(data).items()))
    other = net.streaming(batch=2)
    other.state = state
    assert_same(each_frame(other, x[:, 3:]), net.frame_scores(x)[:, 3:])


def test_advance_leaves_no_trace():
    net, x = trained_like("tsm_resnet18"), video(1, 3)
    step = net.streaming()
    step(x[:, 0])
    before = [tensor.clone() for tensor in step.state]
    first, after = step.advance(x[:, 1], step.state)
    again, _ = step.advance(x[:, 1], step.state)
    assert torch.equal(first, again)
    assert all(map(torch.equal, step.state, before))
    assert not any(map(torch.equal, after, before))
    assert net.frame_scores(x[:, :1]).requires_grad  # the network itself is unchanged
    assert all(module.frames == 4 for _, module in net.temporal_modules())


def test_the_state_of_tsm_is_that_of_the_authors_demonstration():
    net = create_model("tsm_mobilenetv2_100", classes=27, frames=8, causal=True).eval()
    step = net.streaming()
    step(video(1, 1, 224, 224)[:, 0])
    shapes = [(3, 56), (4, 28), (4, 28), *[(8, 14)] * 3, *[(12, 14)] * 2, *[(20, 7)] * 2]
    assert [s.shape for s in step.state] == [(1, c, size, size) for c, size in shapes]


def test_streams_use_the_weights_of_the_network():
    net, x = trained_like("tim_resnet18"), video(1, 1)
    step = net.streaming()
    assert {id(p) for p in step.module.parameters()} == {id(p) for p in net.parameters()}
    nn.init.zeros_(net.head.classifier.weight)
    assert torch.equal(step(x[:, 0])[0], net.head.classifier.bias)


@needs_fused
@pytest.mark.parametrize(
    "name", ["tei_resnet18", pytest.param("i3d_resnet18", marks=pytest.mark.slow)]
)
@torch.inference_mode()
def test_folded_and_fused_networks_stream(name):
    net, x = trained_like(name), video(2, 5)
    fused = fuse_convolutions(fold_batch_norms(net).lay_out_weights(), x[:, :4])
    assert_same(each_frame(fused.streaming(batch=2), x), fused.frame_scores(x))


@pytest.mark.parametrize(
    "name",
    [
        "tim_resnet18",
        *(pytest.param(f"{f}_resnet18", marks=pytest.mark.slow) for f in ("tsm", "tei", "tam")),
    ],
)
@torch.no_grad()
def test_a_step_is_a_graph_with_its_state_as_inputs_and_outputs(name):
    net, x = trained_like(name), video(3, 16)
    graph = step_graph(net, size=(58, 71), batch=2)
    assert len(graph.input_names) == len(graph.inputs) == len(graph.output_names)
    shapes = graph.dynamic_shapes(torch.export.Dim("batch", min=1, max=64))
    exported = torch.export.export(graph.module, graph.inputs, dynamic_shapes=shapes)
    run = exported.module()
    state = [tensor[:1].repeat(3, *(1,) * (tensor.ndim - 1)) for tensor in graph.inputs[1:]]
    outputs = []
    for frames in x.unbind(1):
        scores, *state = run(frames, *state)
        outputs.append(scores)
    assert_same(torch.stack(outputs, 1), net.frame_scores(x))


@torch.inference_mode()
def test_a_module_of_ones_own_streams_without_more_code(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @register("leap", at="before_conv1")
    class Leap(TemporalModule):
        """The difference to the second last frame; the first two frames are copied."""

        def __init__(self, channels: int, *, frames: int, causal: bool = False) -> None:
            super().__init__(frames=frames, look_back=2, look_ahead=0, causal=causal)
            self.scale = nn.Parameter(torch.ones(channels, 1, 1))

        def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
            x_BTCHW = torch.unflatten(x_NCHW, 0, (-1, self.frames))
            moved = self.scale * (x_BTCHW[:, 2:] - x_BTCHW[:, :-2])
            return torch.cat([x_BTCHW[:, :2], moved], 1).flatten(0, 1)

    net, x = trained_like("leap_resnet18"), video(2, 7)
    step = net.streaming(batch=2)
    assert_same(each_frame(step, x[:, :4]), net.frame_scores(x)[:, :4])
    step.reset([1])
    last = each_frame(step, x[:, 4:])
    assert_same(last[:1], net.frame_scores(x)[:1, 4:])
    assert_same(last[1:], net.frame_scores(x[1:, 4:]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: create_model("tsm_resnet18", classes=3), "causal=True.*kinema import --causal"),
        (lambda: create_model("tin_resnet18", classes=3), r"TIN looks ahead .* has no causal form"),
        (
            lambda: create_model("tdn_resnet18", classes=3),
            "tdn_resnet18 takes snippets of 5 neighboring frames, 2 of them behind the center",
        ),
        (
            lambda: create_model("nl_resnet18", classes=3),
            r"NonLocal looks ahead .* has no causal form",
        ),
        (
            lambda: create_model("i3d_slowfast_resnet50", classes=3, frames=32),
            "every 8th frame.*another backbone",
        ),
    ],
)
def test_networks_that_cannot_stream_say_why(build, message):
    with pytest.raises(OptionError, match=message):
        build().eval().streaming()


@pytest.mark.parametrize("name", ["tsm_resnet18", "tim_resnet18", "tam_resnet18"])
@pytest.mark.parametrize("kept_as", [torch.float64, torch.float16])
def test_a_state_may_have_been_kept_in_another_type(name, kept_as):
    step, x = trained_like(name).streaming(), video(1, 3)
    step(x[:, :2])
    state = step.state
    with torch.no_grad():  # so that native.c takes the step
        wanted, _ = step.advance(x[:, 2], state)
        got, after = step.advance(x[:, 2], tuple(tensor.to(kept_as) for tensor in state))
    torch.testing.assert_close(got, wanted, rtol=1e-2, atol=1e-2 * float(wanted.abs().max()))
    assert {tensor.dtype for tensor in after} == {torch.float32}


def test_misuse_is_named():
    net = create_model("tsm_resnet18", classes=3, causal=True)
    with pytest.raises(OptionError, match="call net.eval"):
        net.streaming()
    with pytest.raises(OptionError, match="batch must be at least 1, got 0"):
        net.eval().streaming(batch=0)
    step = net.streaming(batch=2)
    with pytest.raises(InputShapeError, match=r"\(2, 3, H, W\) or .*got \(1, 3, 32, 32\)"):
        step(torch.randn(1, 3, 32, 32))
    with pytest.raises(InputShapeError, match=r"got \(2, 0, 3, 32, 32\)"):
        step(torch.randn(2, 0, 3, 32, 32))
    with pytest.raises(InputShapeError, match="normalized floating-point frames, got torch.uint8"):
        step(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(OptionError, match="no stream 2: they are 0 to 1"):
        step.reset([2])
    step(torch.randn(2, 3, 32, 32))
    kept = step.state
    with pytest.raises(InputShapeError, match="frames of another size"):
        step(torch.randn(2, 3, 64, 64))
    assert step.state is kept
    with pytest.raises(InputShapeError, match="but there are 2 streams"):
        step.state = tuple(tensor[:1] for tensor in kept)
    step.state = kept[:3]
    with pytest.raises(InputShapeError, match="has 3 tensors.*another network"):
        step(torch.randn(2, 3, 32, 32))
