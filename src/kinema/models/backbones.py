"""2D backbones: any timm CNN, and ShuffleNetV2 from torchvision, behind one typed adapter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import timm
import torchvision.models
from torch import nn

from kinema.errors import UnknownNameError, did_you_mean
from kinema.models.res2net import split_res2net_blocks
from kinema.types import IMAGENET_MEAN, IMAGENET_STD

# Tried with every temporal module by the tests; other timm names work too.
BACKBONES = (
    "inception_v3",
    "mobilenetv2_100",
    "res2net50_26w_4s",
    "resnet101",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnext50_32x4d",
    "shufflenet_v2_x1_0",
)

_TORCHVISION: dict[str, Callable[..., nn.Module]] = {
    "shufflenet_v2_x0_5": torchvision.models.shufflenet_v2_x0_5,
    "shufflenet_v2_x1_0": torchvision.models.shufflenet_v2_x1_0,
    "shufflenet_v2_x1_5": torchvision.models.shufflenet_v2_x1_5,
    "shufflenet_v2_x2_0": torchvision.models.shufflenet_v2_x2_0,
}

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """A 2D network without its classifier: (N, 3, H, W) -> (N, features), and facts about it.

    `stage_ends` names the last part of each resolution with its stage number: stage s works at
    1/2**s of the input size, so the stages of a ResNet are 2 to 5 (res2 to res5 of the papers).
    `classifier` is the name of the classifier's parameters in published weight files.
    """

    name: str
    net: nn.Module
    features: int
    stage_ends: tuple[tuple[str, int], ...]
    classifier: str
    mean: Triple
    std: Triple


def is_backbone(name: str) -> bool:
    """Whether `build_backbone` knows the name."""
    return name in _TORCHVISION or timm.is_model(name)


def list_backbones() -> list[str]:
    """The backbones that are tested with every temporal module; any timm CNN can be tried.

    Example:
        >>> "resnet50" in list_backbones()
        True
    """
    return list(BACKBONES)


def build_backbone(name: str) -> Backbone:
    """Builds a backbone with its own random initialisation.

    Raises:
        UnknownNameError: neither timm nor torchvision has it; the message has the nearest name.
    """
    if name in _TORCHVISION:
        return _from_torchvision(name)
    if timm.is_model(name):
        return _from_timm(name)
    known = {*BACKBONES, *timm.list_models(), *_TORCHVISION}
    raise UnknownNameError(f"Unknown backbone {name!r}. " + did_you_mean(name, known))


def _from_timm(name: str) -> Backbone:
    net: Any = timm.create_model(name, num_classes=0)  # timm's attributes are untyped
    config = net.pretrained_cfg
    classifier = config.get("classifier", "fc")
    reductions = {info["module"]: int(info["reduction"]) for info in net.feature_info}
    split_res2net_blocks(net)
    return Backbone(
        name=name,
        net=net,
        features=int(net.head_hidden_size),
        stage_ends=tuple((part, r.bit_length() - 1) for part, r in reductions.items()),
        classifier=classifier if isinstance(classifier, str) else classifier[0],
        mean=cast(Triple, tuple(config["mean"])),
        std=cast(Triple, tuple(config["std"])),
    )


def _from_torchvision(name: str) -> Backbone:
    net = _TORCHVISION[name]()
    features = cast(nn.Linear, net.fc).in_features
    net.fc = nn.Identity()
    return Backbone(
        name=name,
        net=net,
        features=features,
        stage_ends=(("stage2", 3), ("stage3", 4), ("stage4", 5)),
        classifier="fc",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
