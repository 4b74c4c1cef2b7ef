"""The network's public door, names, cost and exact counts."""

import pytest
import torch

from kinema.errors import InputShapeError, OptionError, UnknownNameError
from kinema.models.backbones import list_backbones
from kinema.models.network import VideoNetwork
from kinema.models.zoo import create_model, list_models


def lively(net: VideoNetwork) -> VideoNetwork:
    """Weights with which every residual branch and the classifier matter."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    torch.nn.init.normal_(net.head.classifier.weight)
    return net.eval()


def test_scores_are_the_mean_of_the_frame_scores():
    net = create_model("tsm_resnet18", classes=5, frames=4).eval()
    x = torch.randn(2, 4, 3, 32, 32)
    assert net.frame_scores(x).shape == (2, 4, 5)
    torch.testing.assert_close(net(x), net.frame_scores(x).mean(1), rtol=0, atol=0)


def test_features_are_what_the_classifier_gets():
    net = lively(create_model("tsm_resnet18", classes=5, frames=4))
    x = torch.randn(2, 4, 3, 32, 32)
    features = net.features(x)
    assert features.shape == (2, 4, 512)
    torch.testing.assert_close(net.head.classifier(features), net.frame_scores(x))
    with pytest.raises(InputShapeError, match="built for clips of 4 frames, got 3"):
        net.features(x[:, :3])


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (torch.zeros(2, 6, 3, 32, 32), "built for clips of 4 frames, got 6 .*frames=6"),
        (
            torch.zeros(8, 3, 32, 32),
            r"expects clips of shape \(B, 4, 3, H, W\), got \(8, 3, 32, 32\)",
        ),
        (torch.zeros(2, 4, 1, 32, 32), r"expects clips of shape"),
        (torch.zeros(2, 4, 3, 32, 32, dtype=torch.uint8), "normalized floating-point .* uint8"),
    ],
)
def test_wrong_clips_are_refused(clips, message):
    net = create_model("tsn_resnet18", classes=5, frames=4)
    with pytest.raises(InputShapeError, match=message):
        net(clips)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"name": "tsm_resnet19"},
            UnknownNameError,
            "Unknown network .* Did you mean 'tsm_resnet18'",
        ),
        ({"name": "resnet18"}, UnknownNameError, "is a backbone. Name a network"),
        ({"name": "resnet1", "temporal": "tim"}, UnknownNameError, "Unknown backbone 'resnet1'"),
        ({"name": "resnet18", "temporal": "timm"}, UnknownNameError, "Did you mean 'tim'"),
        ({"name": "tsm_resnet18", "init": "random"}, UnknownNameError, "tsm has no option 'init'"),
        ({"name": "tsn_resnet18", "stages": (5,)}, OptionError, "tsn has no temporal module"),
        ({"name": "tsn_resnet18", "classes": 0}, OptionError, "classes must be at least 1, got 0"),
        ({"name": "tsn_resnet18", "dropout": 1.0}, OptionError, r"dropout must be in \[0, 1\)"),
        ({"name": "tsn_resnet18", "frames": 0}, OptionError, "frames must be at least 1, got 0"),
    ],
)
def test_wrong_names_and_options_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        create_model(**{"classes": 3, **arguments})


def test_names_list_every_family_on_every_backbone():
    assert len(list_models("tim_*")) == len(list_backbones())
    assert list_models("tea_*") == ["tea_res2net101_26w_4s", "tea_res2net50_26w_4s"]
    assert list_models("tim_*50") == ["tim_resnet50", "tim_slowfast_resnet50"]


def test_both_ways_of_naming_build_the_same():
    named = create_model("tim_resnet18", classes=3)
    composed = create_model("resnet18", temporal="tim", classes=3)
    assert named.spec == composed.spec


def test_tsn_does_not_see_the_order_and_tsm_does():
    x = torch.randn(1, 4, 3, 32, 32)
    for name, blind in (("tsn_resnet18", True), ("tsm_resnet18", False), ("tim_resnet18", False)):
        net = lively(create_model(name, classes=3, frames=4))
        assert torch.allclose(net(x), net(x.flip(1)), atol=1e-4) == blind, name


def test_tim_starts_as_tsm():
    torch.manual_seed(0)
    tsm = lively(create_model("tsm_resnet18", classes=3, frames=4))
    torch.manual_seed(0)
    tim = lively(create_model("tim_resnet18", classes=3, frames=4))
    x = torch.randn(2, 4, 3, 32, 32)
    torch.testing.assert_close(tim(x), tsm(x), rtol=1e-6, atol=1e-7)


def test_cost_names_the_share_of_the_temporal_modules():
    net = create_model("tim_resnet18", classes=3, frames=4, stages=(5,))
    cost = net.cost(64)
    assert [site.params for site in cost.sites] == [3 * 256, 3 * 512]
    assert [site.macs for site in cost.sites] == [3 * 256 * 4 * 4 * 4, 3 * 512 * 4 * 2 * 2]
    assert cost.temporal_macs == sum(site.macs for site in cost.sites)
    assert (cost.frames, cost.size_px) == (4, 64)
