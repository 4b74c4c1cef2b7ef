"""Block table: a row per kind of residual block, with everything that a backbone family needs.

A row names the convolutions of the block, in which `models/sites.py` finds the sites for temporal
modules, and the layers that `inference/fuse.py` joins. A new family is one call of
`register_blocks`, here or in a plugin file.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from kinema.errors import OptionError


@dataclass(frozen=True)
class ResidualLayers:
    """Layers of a block that computes act(branch(x) + shortcut(x)), for fusing.

    Attributes:
        branch: Layers of the residual branch in order, up to its last convolution.
        after: Layers between that convolution and the addition. The block is fused only if each
            of them is an identity, like folded norms.
        act: Activation after the addition.
    """

    branch: tuple[str, ...]
    after: tuple[str, ...]
    act: str


def _always(_: nn.Module) -> bool:
    return True


def _has_skip(block: nn.Module) -> bool:
    return bool(block.has_skip)


@dataclass(frozen=True)
class BlockRow:
    """Row of the block table; see `register_blocks` for the fields."""

    block: str
    convs: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    output: str | None = None
    widening: int | None = 1
    carries_input: Callable[[nn.Module], bool] = _always
    takes_tensor: bool = True
    fused: ResidualLayers | None = None

    def convs_of(self, block: nn.Module) -> list[str]:
        """Names in `convs` that this block has."""
        return [name for name in self.convs if has_layer(block, name)]

    def norm_behind(self, block: nn.Module, conv: str) -> str | None:
        """Norm behind this convolution of the block, if the row names one that it has."""
        norm = dict(zip(self.convs, self.norms, strict=False)).get(conv)
        return norm if norm is not None and has_layer(block, norm) else None

    def end_of(self, block: nn.Module) -> str | None:
        """Last layer of this block's residual branch."""
        return next((name for name in self.end if has_layer(block, name)), None)


@dataclass(frozen=True)
class BackboneSource:
    """Registered backbone: its builder and stages; None if timm provides them."""

    build: Callable[[], nn.Module] | None
    stage_ends: tuple[tuple[str, int], ...] | None


_ROWS: dict[str, BlockRow] = {}
_BACKBONES: dict[str, BackboneSource] = {}


def register_blocks(  # noqa: PLR0913 - one row holds everything about a family
    block: str | type[nn.Module],
    *,
    convs: Iterable[str] = (),
    norms: Iterable[str] = (),
    end: str | Iterable[str] = (),
    output: str | None = None,
    widening: int | None = 1,
    carries_input: Callable[[nn.Module], bool] = _always,
    takes_tensor: bool = True,
    fused: ResidualLayers | None = None,
    backbones: Iterable[str] | Mapping[str, Callable[[], nn.Module]] = (),
    stage_ends: Mapping[str, int] | None = None,
) -> None:
    """Adds a row to the block table, so that temporal modules fit on a backbone family.

    Names of layers are dotted and relative to the block. Names of layers that a block lacks, or
    that are identities, are ignored, so that a row can describe variants.

    Args:
        block: Class of the blocks (subclasses included), or its dotted name, which is not
            imported.
        convs: Convolutions of the residual branch, in order; the first takes the block's input.
            The first three are `conv1` to `conv3` of the positions. Empty for a block with
            parallel convolutions, which has sites only before and after it.
        norms: Norm behind each of `convs`, for modules that replace both (`bigview`, `ctnet`);
            they do not fit a block without.
        end: Layer after which the branch joins the identity path, for `before_addition`; of
            several, the first that the block has.
        output: Layer with as many output channels as `end`, if `end` does not have channels; by
            default the first convolution if there is no `end`.
        widening: Channels of the block's output per channel of `output`; None if there is no such
            ratio, which excludes sites after the block.
        carries_input: True for a block in which another path carries the input past the branch.
            Only such blocks have sites before conv1 and before the addition, since a temporal
            module there must not be the only path through the block.
        takes_tensor: False for a block whose input or output is not a single tensor: it has sites
            only inside.
        fused: Layers for fusing on the CPU, for blocks that end in relu(branch + shortcut).
        backbones: Names of timm networks that `list_backbones` shows and `list_models` combines
            with every family. For a network that is not from timm, a mapping from its name to a
            function that builds it without a classifier: (N, 3, H, W) -> (N, features).
        stage_ends: Name of the last layer of each stage -> stage number s, for features at 1/2**s
            of the input size. timm networks bring it (`feature_info`).

    Raises:
        OptionError: the class has a row, or a backbone of this name is registered.

    Example:
        >>> from timm.models.resnet import BasicBlock
        >>> class MyBlock(BasicBlock):
        ...     pass
        >>> register_blocks(MyBlock, convs=("conv1", "conv2"), end="bn2")
    """
    name = block if isinstance(block, str) else class_name(block)
    if name in _ROWS:
        raise OptionError(f"The block {name} already has a row in the block table.")
    builders = backbones if isinstance(backbones, Mapping) else dict.fromkeys(backbones)
    for backbone in builders:
        if backbone in _BACKBONES:
            raise OptionError(f"The backbone {backbone!r} is already registered.")
    _ROWS[name] = BlockRow(
        block=name,
        convs=tuple(convs),
        norms=tuple(norms),
        end=(end,) if isinstance(end, str) else tuple(end),
        output=output,
        widening=widening,
        carries_input=carries_input,
        takes_tensor=takes_tensor,
        fused=fused,
    )
    ends = None if stage_ends is None else tuple(stage_ends.items())
    for backbone, build in builders.items():
        _BACKBONES[backbone] = BackboneSource(build, ends)


def row_of(module: nn.Module) -> BlockRow | None:
    """Row of a module's class or of its nearest base class with one."""
    rows = (_ROWS.get(class_name(kind)) for kind in type(module).__mro__)
    return next((row for row in rows if row is not None), None)


def registered_blocks() -> tuple[str, ...]:
    """Dotted names of the block classes with a row."""
    return tuple(_ROWS)


def registered_backbones() -> Mapping[str, BackboneSource]:
    """Backbones named in rows."""
    return _BACKBONES


def class_name(kind: type) -> str:
    """Dotted name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def has_layer(block: nn.Module, name: str) -> bool:
    """True if the block has a layer of this dotted name that is not an identity."""
    layer: object = block
    for part in name.split("."):
        layer = getattr(layer, part, None)
    return isinstance(layer, nn.Module) and not isinstance(layer, nn.Identity)


def owner_of(block: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Returns the parent module of the dotted `name`, and the last part of the name."""
    parent, _, leaf = name.rpartition(".")
    return block.get_submodule(parent), leaf


_CONVS_2, _CONVS_3 = ("conv1", "conv2"), ("conv1", "conv2", "conv3")
_NORMS_2, _NORMS_3 = ("bn1", "bn2"), ("bn1", "bn2", "bn3")

register_blocks(
    "timm.models.resnet.BasicBlock",
    convs=_CONVS_2,
    norms=_NORMS_2,
    end="bn2",
    fused=ResidualLayers(
        ("conv1", "bn1", "drop_block", "act1", "aa", "conv2"), ("bn2", "se", "drop_path"), "act2"
    ),
    backbones=("resnet18", "resnet34"),
)
register_blocks(
    "timm.models.resnet.Bottleneck",
    convs=_CONVS_3,
    norms=_NORMS_3,
    end="bn3",
    fused=ResidualLayers(
        ("conv1", "bn1", "act1", "conv2", "bn2", "drop_block", "act2", "aa", "conv3"),
        ("bn3", "se", "drop_path"),
        "act3",
    ),
    backbones=("resnet50", "resnet101", "resnext50_32x4d"),
)
register_blocks(
    "kinema.models.res2net.Res2NetBlock",
    convs=_CONVS_3,
    end="bn3",
    fused=ResidualLayers(("conv1", "bn1", "act1", "conv2", "conv3"), ("bn3", "se"), "act3"),
    backbones=("res2net50_26w_4s", "res2net101_26w_4s"),
)
# Norm and activation come before each convolution, so nothing follows the last one.
register_blocks("timm.models.resnetv2.PreActBasic", convs=_CONVS_2, end="conv2")
register_blocks("timm.models.resnetv2.PreActBottleneck", convs=_CONVS_3, end="conv3")
register_blocks(
    "timm.models.regnet.Bottleneck", convs=("conv1.conv", "conv2.conv", "conv3.conv"), end="conv3"
)
# DarkNet-53, and the cross-stage networks whose stages hold the same blocks.
register_blocks("timm.models.cspnet.DarkBlock", convs=("conv1.conv", "conv2.conv"), end="conv2")
register_blocks("timm.models.cspnet.EdgeBlock", convs=("conv1.conv", "conv2.conv"), end="conv2")
register_blocks(
    "timm.models.cspnet.BottleneckBlock",
    convs=("conv1.conv", "conv2.conv", "conv3.conv"),
    end=("attn3", "conv3"),
    output="conv3",
)
# MobileNetV2, EfficientNet and their relatives; blocks without expansion are of another class.
register_blocks(
    "timm.models._efficientnet_blocks.InvertedResidual",
    convs=("conv_pw", "conv_dw", "conv_pwl"),
    end="bn3",
    carries_input=_has_skip,
    backbones=("mobilenetv2_100",),
)
# The fused blocks of EfficientNetV2: expansion and 3x3 in one convolution.
register_blocks(
    "timm.models._efficientnet_blocks.EdgeResidual",
    convs=("conv_exp", "conv_pwl"),
    end="bn2",
    carries_input=_has_skip,
)
# MobileNetV4: each of the three depth-wise convolutions may be missing.
register_blocks(
    "timm.models._efficientnet_blocks.UniversalInvertedResidual",
    convs=("dw_start.conv", "pw_exp.conv", "dw_mid.conv", "pw_proj.conv", "dw_end.conv"),
    end=("layer_scale", "dw_end", "pw_proj"),
    output="pw_proj",
    carries_input=_has_skip,
)
# GhostNet: a ghost module (a convolution and cheap features made from its output) is one layer.
for _ghost in ("GhostBottleneck", "GhostBottleneckV3"):
    register_blocks(
        f"timm.models.ghostnet.{_ghost}", convs=("ghost1", "conv_dw", "ghost2"), end="ghost2"
    )
# ConvNeXt: channels are last after the 7x7 convolution, so only that one has sites.
register_blocks("timm.models.convnext.ConvNeXtBlock", convs=("conv_dw",))
# FastViT: the residual branch is the MLP with its 7x7 convolution, behind the token mixer.
for _fastvit, _scale in (("RepMixerBlock", "layer_scale"), ("AttentionBlock", "layer_scale_2")):
    register_blocks(
        f"timm.models.fastvit.{_fastvit}",
        convs=("mlp.conv.conv", "mlp.fc1", "mlp.fc2"),
        end=(_scale, "mlp"),
        output="mlp.fc2",
    )
# RepViT: likewise, but its MLP has no convolution in space.
register_blocks(
    "timm.models.repvit.RepViTBlock",
    convs=("channel_mixer.conv1.c", "channel_mixer.conv2.c"),
    end="channel_mixer",
)
# HGNetV2: the input and the output of each layer are joined, then aggregated.
register_blocks(
    "timm.models.hgnet.HighPerfGpuBlock",
    convs=("layers.0", "layers.1", "layers.2"),
    output="aggregation",
)
# VoVNet: the input and the output of each layer are joined, then aggregated. The variants
# with depth-wise layers first change the width, except where it fits already.
register_blocks(
    "timm.models.vovnet.OsaBlock",
    convs=(
        "conv_reduction.conv",
        *(f"conv_mid.{i}.{conv}" for i in range(3) for conv in ("conv", "conv_dw", "conv_pw")),
    ),
    output="conv_concat",
    backbones=("ese_vovnet39b",),
)
# StarNet: two parallel convolutions follow the first, so only that one has sites.
register_blocks("timm.models.starnet.Block", convs=("dwconv.conv",), end="dwconv2")
# DenseNet: a layer takes all earlier outputs as a list, and its own is joined to them.
register_blocks("timm.models.densenet.DenseLayer", convs=_CONVS_2, end="conv2", takes_tensor=False)
# MobileOne and RepVGG: the branches are parallel.
register_blocks("timm.models.byobnet.MobileOneBlock", output="conv_kxk")
register_blocks("timm.models.byobnet.RepVggBlock", output="conv_kxk")
# ShuffleNetV2: the other half of the channels is the identity path.
register_blocks(
    "torchvision.models.shufflenetv2.InvertedResidual",
    convs=("branch2.0", "branch2.3", "branch2.5"),
    end="branch2.6",
    widening=2,
    backbones=("shufflenet_v2_x1_0",),
)
# Inception: the deepest branch is the residual branch, the other branches carry the input. In E
# the second layer feeds two parallel ones, so there is neither a third nor one last layer.
for _unit, _branch, _convs, _end in (
    ("A", "branch3x3dbl", 3, "branch3x3dbl_3"),
    ("B", "branch3x3dbl", 3, "branch3x3dbl_3"),
    ("C", "branch7x7dbl", 3, "branch7x7dbl_5"),
    ("D", "branch7x7x3", 3, "branch7x7x3_4"),
    ("E", "branch3x3dbl", 2, ()),
):
    register_blocks(
        f"timm.models.inception_v3.Inception{_unit}",
        convs=[f"{_branch}_{number}.conv" for number in range(1, _convs + 1)],
        end=_end,
        widening=None,
        backbones=("inception_v3",) if _unit == "A" else (),
    )
