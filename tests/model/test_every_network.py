"""One tester over every network of the zoo on every backbone that fits the time."""

import pytest
import torch

from kinema.errors import SiteError
from kinema.models.saved import load_saved, save
from kinema.models.zoo import FAMILIES, create_model

QUICK_BACKBONES = ("resnet18", "mobilenetv2_100", "shufflenet_v2_x1_0")
SLOW_BACKBONES = ("resnet34", "resnet50", "resnext50_32x4d", "res2net50_26w_4s", "inception_v3")
FRAMES, CLASSES = 4, 3

networks = pytest.mark.parametrize(
    "name",
    [
        *(f"{family}_{backbone}" for family in FAMILIES for backbone in QUICK_BACKBONES),
        *(
            pytest.param(f"{family}_{backbone}", marks=pytest.mark.slow)
            for family in FAMILIES
            for backbone in SLOW_BACKBONES
        ),
    ],
)


def made(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    net = create_model(name, classes=CLASSES, frames=FRAMES, dropout=0)
    torch.nn.init.normal_(net.head.classifier.weight)
    for module in net.modules():  # backbones start with silent residual branches
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    size = 96 if "inception" in name else 64
    return net, torch.randn(2, FRAMES, 3, size, size)


@networks
def test_forward_and_backward_reach_every_parameter(name):
    net, x = made(name)
    net.train()(x).square().sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@networks
def test_a_clip_does_not_depend_on_the_others_of_its_batch(name):
    net, x = made(name)
    with torch.inference_mode():
        together, alone = net.eval()(x), net(x[:1])
    torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-3)


@networks
def test_memory_layout_does_not_change_the_scores(name):
    net, x = made(name)
    with torch.inference_mode():
        fast = net.eval()(x)
        net.channels_last = False
        torch.testing.assert_close(net(x), fast, rtol=1e-3, atol=1e-3)


@networks
def test_saved_and_loaded_it_is_the_same(name, tmp_path):
    net, x = made(name)
    loaded = load_saved(save(net, tmp_path / "model", labels=["a", "b", "c"])).net
    assert list(loaded.state_dict()) == list(net.state_dict())
    with torch.inference_mode():
        assert torch.equal(loaded(x), net.eval()(x))


@networks
def test_taking_the_modules_out_leaves_the_plain_backbone(name):
    family, backbone = name.split("_", 1)
    net, _ = made(name)
    if family == "tsn":
        with pytest.raises(SiteError, match="has no temporal module"):
            net.remove()
        return
    plain = create_model(f"tsn_{backbone}", classes=CLASSES, frames=FRAMES)
    assert list(net.remove().state_dict()) == list(plain.state_dict())
