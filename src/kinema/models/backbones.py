"""2D backbones: any timm CNN, and ShuffleNetV2 from torchvision, behind one typed adapter."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import timm
import torchvision.models
from torch import nn

from kinema.errors import OptionError, UnknownNameError, did_you_mean
from kinema.models.res2net import split_res2net_blocks
from kinema.models.slowfast import ALPHA, TEMPORAL_BLOCKS, SlowFast
from kinema.values import IMAGENET_MEAN, IMAGENET_STD

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

# SlowFast with the ResNet-50: a backbone of two pathways.
SLOWFAST = "slowfast_resnet50"

_TORCHVISION: dict[str, Callable[..., nn.Module]] = {
    "shufflenet_v2_x0_5": torchvision.models.shufflenet_v2_x0_5,
    "shufflenet_v2_x1_0": torchvision.models.shufflenet_v2_x1_0,
    "shufflenet_v2_x1_5": torchvision.models.shufflenet_v2_x1_5,
    "shufflenet_v2_x2_0": torchvision.models.shufflenet_v2_x2_0,
}

# Networks of timm at another depth: its nearest name, and the blocks of each stage.
_OTHER_DEPTHS = {"res2net26_26w_4s": ("res2net50_26w_4s", [2, 2, 2, 2])}

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """A 2D network without its classifier: (N, 3, H, W) -> (N, features), and facts about it.

    `stage_ends` names the last part of each resolution with its stage number: stage s works at
    1/2**s of the input size, so the stages of a ResNet are 2 to 5 (res2 to res5 of the papers).
    `classifier` is the name of the classifier's parameters in published weight files. With two
    pathways, `slow` is the first part of the names of the layers that see only every
    `frame_stride`-th frame, and `temporal_blocks` are the blocks by stage in which its paper has
    temporal modules.
    """

    name: str
    net: nn.Module
    features: int
    stage_ends: tuple[tuple[str, int], ...]
    classifier: str
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    slow: str = ""
    frame_stride: int = 1
    temporal_blocks: Mapping[int, tuple[int, ...]] | None = None

    def stride_at(self, path: str) -> int:
        """The frames of the clip for each frame that the layer of this name sees."""
        return self.frame_stride if self.slow and path.startswith(self.slow) else 1


def is_backbone(name: str) -> bool:
    """Whether `build_backbone` knows the name."""
    return name in {*_TORCHVISION, *_OTHER_DEPTHS, SLOWFAST} or timm.is_model(name)


def list_backbones() -> list[str]:
    """The backbones that are tested with every temporal module; any timm CNN can be tried.

    Example:
        >>> "resnet50" in list_backbones()
        True
    """
    return sorted([*BACKBONES, SLOWFAST])


def build_backbone(name: str, *, frames: int) -> Backbone:
    """Builds a backbone with its own random initialization, for clips of `frames` frames.

    Raises:
        UnknownNameError: neither timm nor torchvision has it; the message has the nearest name.
    """
    if name in _TORCHVISION:
        return _from_torchvision(name)
    if name == SLOWFAST:
        return _slowfast(frames)
    if name in _OTHER_DEPTHS or timm.is_model(name):
        return _from_timm(name)
    known = {*BACKBONES, SLOWFAST, *timm.list_models(), *_TORCHVISION, *_OTHER_DEPTHS}
    raise UnknownNameError(f"Unknown backbone {name!r}. " + did_you_mean(name, known))


def _from_timm(name: str) -> Backbone:
    nearest, layers = _OTHER_DEPTHS.get(name, (name, None))
    depth: dict[str, Any] = {} if layers is None else {"layers": layers}
    net: Any = timm.create_model(nearest, num_classes=0, **depth)  # timm's attributes are untyped
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
    )


def _slowfast(frames: int) -> Backbone:
    if frames % ALPHA:
        raise OptionError(
            f"{SLOWFAST} needs a multiple of {ALPHA} frames (its slow pathway sees every "
            f"{ALPHA}th), got {frames}."
        )
    stages = [(f"{trunk}.layer{s - 1}", s) for trunk in ("slow", "fast") for s in (2, 3, 4, 5)]
    return Backbone(
        name=SLOWFAST,
        net=SlowFast(frames=frames),
        features=SlowFast.features,
        stage_ends=tuple(stages),
        classifier="fc",
        slow="slow.",
        frame_stride=ALPHA,
        temporal_blocks=TEMPORAL_BLOCKS,
    )
