"""Activation checkpointing changes neither gradients nor statistics, and keeps less."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from kinema.errors import OptionError
from kinema.models.activation_checkpointing import checkpoint_blocks
from kinema.models.network import VideoNetwork
from kinema.models.zoo import create_model

FRAMES = 4

NETWORKS: dict[str, Callable[[], VideoNetwork]] = {
    "tsm": lambda: create_model("resnet10t", temporal="tsm", classes=3, frames=FRAMES),
    "tam": lambda: create_model("resnet10t", temporal="tam", classes=3, frames=FRAMES),
    "tei": lambda: create_model("test_resnet", temporal="tei", classes=3, frames=FRAMES),
    "around": lambda: create_model(
        "resnet10t", temporal="tsm", at="block", classes=3, frames=FRAMES
    ),
    "after": lambda: create_model(
        "resnet10t", temporal="tsm", at="after_block", classes=3, frames=FRAMES
    ),
    "mobile": lambda: create_model("mobilenetv2_050", temporal="tsm", classes=3, frames=FRAMES),
}


def pair(name: str) -> tuple[VideoNetwork, VideoNetwork]:
    """The same network twice, the second with checkpointing."""
    torch.manual_seed(1)
    plain = NETWORKS[name]()
    nn.init.normal_(plain.head.classifier.weight)
    plain.train()
    thrifty = copy.deepcopy(plain)
    assert checkpoint_blocks(thrifty) > 1
    return plain, thrifty


def step(net: VideoNetwork, clips: torch.Tensor, *, precision: torch.dtype) -> torch.Tensor:
    torch.manual_seed(7)
    with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
        scores = net(clips)
    scores.float().square().sum().backward()
    return scores


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_gradients_and_statistics_are_those_of_a_plain_step(
    name: str, precision: torch.dtype
) -> None:
    clips = torch.randn(2, FRAMES, 3, 32, 32)
    plain, thrifty = pair(name)
    for _ in range(2):
        wanted, got = (step(net, clips, precision=precision) for net in (plain, thrifty))
        assert torch.equal(wanted, got)
    grads = dict(thrifty.named_parameters())
    for key, parameter in plain.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, grads[key].grad), key
    assert plain.state_dict().keys() == thrifty.state_dict().keys()
    for key, value in plain.state_dict().items():
        assert torch.equal(value, thrifty.state_dict()[key]), key


def test_random_numbers_are_drawn_once() -> None:
    plain, thrifty = pair("tsm")
    for net in (plain, thrifty):
        for block in (net.backbone.layer2, net.backbone.layer3):
            block[0].drop_path = nn.Dropout(0.5)
    clips = torch.randn(2, FRAMES, 3, 32, 32)
    for net in (plain, thrifty):
        step(net, clips, precision=torch.float32)
    grads = [net.backbone.conv1[0].weight.grad for net in (plain, thrifty)]
    assert torch.equal(*grads)
    assert grads[0].abs().sum() > 0
    # The generator stands where a plain step leaves it.
    after = []
    for net in (plain, thrifty):
        step(net, clips, precision=torch.float32)
        after.append(torch.rand(3))
    assert torch.equal(*after)


def test_less_is_kept_for_the_backward_pass() -> None:
    kept = []
    for net in pair("tsm"):
        shapes: list[torch.Size] = []

        def note(tensor: torch.Tensor, shapes: list[torch.Size] = shapes) -> torch.Tensor:
            shapes.append(tensor.shape)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            net(torch.randn(1, FRAMES, 3, 32, 32))
        kept.append(sum(len(shape) == 4 for shape in shapes))
    assert kept[1] < kept[0] / 2


def test_a_copy_runs_its_own_weights_and_evaluation_computes_once() -> None:
    _, net = pair("tsm")
    other = copy.deepcopy(net).eval()
    with torch.no_grad():
        for parameter in other.backbone.parameters():
            parameter.zero_()
        assert not net.eval().backbone(torch.randn(4, 3, 32, 32)).equal(torch.zeros(4, 512))
        assert bool((other.backbone(torch.randn(4, 3, 32, 32)) == 0).all())
    assert checkpoint_blocks(net) == 4  # a second time changes nothing


def test_a_backbone_without_known_blocks_is_named() -> None:
    net = create_model("tsn_vgg11", classes=3, frames=FRAMES)
    with pytest.raises(OptionError, match="vgg11 has none with a row"):
        checkpoint_blocks(net)
