"""Grad-CAM shows what a score depends on, of folded frames as of single clips."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from kinema.errors import OptionError, UnknownNameError
from kinema.figures.grad_cam import grad_cam
from kinema.models.network import VideoNetwork
from kinema.models.zoo import create_model

from ...random_weights import randomized, tiny_network

FRAMES = 4


def clip(clips: int = 1) -> torch.Tensor:
    return torch.randn(clips, FRAMES, 3, 32, 32)


def bright_spot_network() -> VideoNetwork:
    """Scores that depend on red pixels and on nothing else."""
    net = create_model("tsn_test_resnet", classes=2, frames=FRAMES)
    detector = nn.Conv2d(3, 1, 1)
    net.backbone = nn.Sequential(
        OrderedDict(
            detector=detector,
            act=nn.ReLU(inplace=True),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
        )
    )
    net.head.classifier = nn.Linear(1, 2)
    with torch.no_grad():
        detector.weight[0, :, 0, 0] = torch.tensor([1.0, 0.0, 0.0])
        detector.bias.fill_(-0.5)
        net.head.classifier.weight[:, 0] = torch.tensor([1.0, -1.0])
    return net.eval()


def test_grad_cam_shows_the_frame_and_the_region_that_the_score_depends_on():
    x = torch.zeros(2, FRAMES, 3, 8, 8)
    x[0, 2, 0, 1:3, 4:7] = 1  # red in frame 2
    x[0, 1, 1] = 1  # green everywhere in frame 1
    x[1, 0, 0, 7, 7] = 1
    net = bright_spot_network()
    cam = grad_cam(net, x, classes=[0, 0], layer="detector")
    assert {tuple(place) for place in np.argwhere(cam.maps > 0)} == {
        *((0, 2, row, column) for row in (1, 2) for column in (4, 5, 6)),
        (1, 0, 7, 7),
    }
    # The value: activation 0.5 times the mean gradient, 6 of 64 places at 1 / (4 frames * 64).
    np.testing.assert_allclose(cam.maps[0, 2, 1, 4], 0.5 * 6 / 64 / (4 * 64), rtol=1e-5)
    assert grad_cam(net, x, classes=[1, 1], layer="act").maps.max() == 0  # evidence against


@pytest.mark.parametrize("layer", [None, "res3", "layer3.0", "layer2.0.bn1"])
def test_grad_cam_is_that_of_single_clips_and_of_the_equations(layer):
    net, x = tiny_network("tsm"), clip(3)
    both = grad_cam(net, x, classes=[2, 0, 1], layer=layer)
    scores = net(x)
    np.testing.assert_allclose(both.scores, scores.detach().numpy(), rtol=1e-5, atol=1e-6)
    for number, label in enumerate((2, 0, 1)):
        single = x[number : number + 1]
        one = grad_cam(net, single, classes=[label], layer=layer)
        np.testing.assert_allclose(both.maps[number], one.maps[0], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(one.maps[0], plain_cam(net, single, label, one.layer), rtol=1e-4)
    assert both.layer == {None: "layer4", "res3": "layer2"}.get(layer, layer)
    assert all(not m._forward_hooks for m in net.modules())
    assert all(p.grad is None for p in net.parameters())
    assert grad_cam(net, x, layer=layer).classes == tuple(scores.argmax(1).tolist())


def plain_cam(net: VideoNetwork, single: torch.Tensor, label: int, layer: str) -> np.ndarray:
    """Grad-CAM from the gradient of the whole network, frame after frame."""
    kept: list[torch.Tensor] = []
    target = net.backbone.get_submodule(layer)

    def keep(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        kept.append(output)
        return output.clone()

    handle = target.register_forward_hook(keep)
    score = net(single)[0, label]
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept)
    frames = []
    for activation_Chw, gradient_Chw in zip(kept[0].detach(), gradient, strict=True):
        total = torch.zeros(activation_Chw.shape[1:])
        for channel, values in enumerate(activation_Chw):
            total += gradient_Chw[channel].mean() * values
        frames.append(total.clamp(min=0))
    return torch.stack(frames).numpy()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": "layer9"}, UnknownNameError, "runs/x .* no layer 'layer9'. Did you mean 'layer"),
        ({"layer": "res9"}, UnknownNameError, "Did you mean 'res"),
        ({"layer": "global_pool"}, OptionError, r"'global_pool' returns \(4, \d+\).*such as res5"),
        ({"classes": [3]}, OptionError, "runs/x has classes 0 to 2, so there is no class 3"),
        ({"classes": [1, 1]}, OptionError, "One class for each of the 1 clips, got 2"),
    ],
)
def test_layers_and_classes_that_do_not_exist(options, error, message):
    with pytest.raises(error, match=message):
        grad_cam(tiny_network("tsm"), clip(), source="runs/x", **options)


@pytest.mark.slow
def test_two_pathways_have_maps_of_their_own_frames():
    net = randomized(create_model("tsn_slowfast_resnet50", classes=3, frames=16))
    x = torch.randn(1, 16, 3, 64, 64)
    assert grad_cam(net, x, layer="slow.layer4").maps.shape[:2] == (1, 2)
    assert grad_cam(net, x, layer="fast.layer4").maps.shape[:2] == (1, 16)
