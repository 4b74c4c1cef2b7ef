"""Where the residual blocks of each backbone family keep their parts.

One row per kind of block: the names of its convolutions and of the last layer of its residual
branch. `models/sites.py` turns a row into sites. A new family is a new row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import nn

from kinema.models.backbones import Backbone


def _always(_: nn.Module) -> bool:
    return True


def _has_skip(block: nn.Module) -> bool:
    return bool(block.has_skip)


@dataclass(frozen=True)
class BlockForm:
    """Dotted names inside one kind of block.

    `conv1`, `conv2` and `conv3` are the first convolutions of the residual branch, in order;
    `end` the layer after which the branch joins the identity path. `carries_input` says whether
    another path of the block carries its input past the branch: only then is there a site in
    front of conv1 and one before the addition, because a temporal module there must not be the
    only way through the block. `widening` is the width of the block's output over that of the
    branch's `end`; None when no number is right.
    """

    conv1: str
    conv2: str | None = None
    conv3: str | None = None
    end: str | None = None
    carries_input: Callable[[nn.Module], bool] = _always
    widening: int | None = 1


def _inception(branch: str, end: str | None) -> BlockForm:
    """The deepest branch is the residual branch; the other branches carry the input."""
    return BlockForm(
        f"{branch}_1.conv",
        f"{branch}_2.conv",
        f"{branch}_3.conv" if end else None,
        end=f"{branch}_{end}" if end else None,
        widening=None,
    )


_FORMS: dict[tuple[str, str], BlockForm] = {
    ("timm.models.resnet", "BasicBlock"): BlockForm("conv1", "conv2", end="bn2"),
    ("timm.models.resnet", "Bottleneck"): BlockForm("conv1", "conv2", "conv3", end="bn3"),
    ("kinema.models.res2net", "Res2NetBlock"): BlockForm("conv1", "conv2", "conv3", end="bn3"),
    ("timm.models.regnet", "Bottleneck"): BlockForm(
        "conv1.conv", "conv2.conv", "conv3.conv", end="conv3"
    ),
    # MobileNetV2, EfficientNet and their relatives; blocks without expansion are of another class.
    ("timm.models._efficientnet_blocks", "InvertedResidual"): BlockForm(
        "conv_pw", "conv_dw", "conv_pwl", end="bn3", carries_input=_has_skip
    ),
    # The fused blocks of EfficientNetV2: expansion and 3x3 in one convolution.
    ("timm.models._efficientnet_blocks", "EdgeResidual"): BlockForm(
        "conv_exp", "conv_pwl", end="bn2", carries_input=_has_skip
    ),
    # ConvNeXt: behind its 7x7 convolution channels are last, so only that one offers sites.
    ("timm.models.convnext", "ConvNeXtBlock"): BlockForm("conv_dw"),
    # ShuffleNetV2: the other half of the channels is the identity path.
    ("torchvision.models.shufflenetv2", "InvertedResidual"): BlockForm(
        "branch2.0", "branch2.3", "branch2.5", end="branch2.6", widening=2
    ),
    ("timm.models.inception_v3", "InceptionA"): _inception("branch3x3dbl", "3"),
    ("timm.models.inception_v3", "InceptionB"): _inception("branch3x3dbl", "3"),
    ("timm.models.inception_v3", "InceptionC"): _inception("branch7x7dbl", "5"),
    ("timm.models.inception_v3", "InceptionD"): _inception("branch7x7x3", "4"),
    # The second layer feeds two parallel ones, so there is neither a third nor one last layer.
    ("timm.models.inception_v3", "InceptionE"): _inception("branch3x3dbl", None),
}


@dataclass(frozen=True)
class Block:
    """One block of a backbone: its stage, its number inside the stage, and its form."""

    stage: int
    index: int
    path: str
    module: nn.Module
    form: BlockForm


def form_of(module: nn.Module) -> BlockForm | None:
    """The row of the table for this module; None when it is not a known residual block."""
    for kind in type(module).__mro__:
        form = _FORMS.get((kind.__module__, kind.__name__))
        if form is not None:
            return form
    return None


def find_blocks(backbone: Backbone) -> Iterator[Block]:
    """The residual blocks of a backbone from input to output; none where stages have no module."""
    order = {name: i for i, (name, _) in enumerate(backbone.net.named_modules())}
    if any(end not in order for end, _ in backbone.stage_ends):  # HRNet's run beside each other
        return
    counts: dict[int, int] = {}
    for path, module in backbone.net.named_modules():
        form = form_of(module)
        if form is None:
            continue
        stage = _stage_of(path, backbone.stage_ends, order)
        index = counts.get(stage, 0)
        counts[stage] = index + 1
        yield Block(stage=stage, index=index, path=path, module=module, form=form)


def _stage_of(path: str, stage_ends: tuple[tuple[str, int], ...], order: dict[str, int]) -> int:
    for end, stage in stage_ends:
        if order[path] <= order[end] or path.startswith(end + "."):
            return stage
    return stage_ends[-1][1]


def owner_of(block: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds the dotted `name`, and the last part of the name."""
    parent, _, leaf = name.rpartition(".")
    return block.get_submodule(parent), leaf
