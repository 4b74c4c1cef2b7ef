"""2D backbones: timm CNNs, ShuffleNetV2 of torchvision and registered ones, in a common form.

Letters: N frames, H, W.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from kinema.errors import OptionError, UnknownNameError, did_you_mean
from kinema.models import temporal_pool
from kinema.models.blocks import BackboneSource, BlockRow, class_name, registered_backbones, row_of
from kinema.models.res2net import split_res2net_blocks
from kinema.models.slowfast import ALPHA, TEMPORAL_BLOCKS, SlowFast
from kinema.system.image_libraries import timm, torchvision
from kinema.values import IMAGENET_MEAN, IMAGENET_STD

# SlowFast with ResNet-50: two pathways; the number of frames must be a multiple of 8.
SLOWFAST = "slowfast_resnet50"

_TORCHVISION = tuple(f"shufflenet_v2_x{width}" for width in ("0_5", "1_0", "1_5", "2_0"))

# timm networks at another depth: the name in timm, and the number of blocks in each stage.
_OTHER_DEPTHS = {"res2net26_26w_4s": ("res2net50_26w_4s", [2, 2, 2, 2])}

# Side of the frame that shows the width of a registered backbone's output.
PROBE_PX = 64

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """A 2D network without its classifier: (N, 3, H, W) -> (N, features).

    Attributes:
        name: Name in timm, torchvision or the block table.
        net: The network.
        features: Width of its output.
        stage_ends: Name of the last layer of each stage with the stage number: stage s works at
            1/2**s of the input size, so the stages of a ResNet are 2 to 5 (res2 to res5 of the
            papers).
        classifier: Name of the classifier in published weight files.
        mean: Mean of the RGB channels (0..1) that its published weights expect.
        std: Standard deviation that goes with `mean`.
        slow: With two pathways, the prefix of the names of the layers that see only every
            `frame_stride`-th frame.
        frame_stride: Frames of the clip per frame of the slow pathway.
        temporal_blocks: Blocks with temporal modules in the backbone's own paper, by stage.
        pooled: Names of the blocks behind a temporal pool.
    """

    name: str
    net: nn.Module
    features: int
    stage_ends: tuple[tuple[str, int], ...]
    classifier: str = "fc"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    slow: str = ""
    frame_stride: int = 1
    temporal_blocks: Mapping[int, tuple[int, ...]] | None = None
    pooled: tuple[str, ...] = ()

    @property
    def clip_step(self) -> int:
        """Number of which the frames of a clip must be a multiple."""
        return self.frame_stride * (temporal_pool.STRIDE if self.pooled else 1)

    def stride_at(self, path: str) -> int:
        """Frames of the clip per frame of the named layer."""
        if any(path == block or path.startswith(f"{block}.") for block in self.pooled):
            return temporal_pool.STRIDE
        return self.frame_stride if self.slow and path.startswith(self.slow) else 1


@dataclass(frozen=True)
class Block:
    """Block of a backbone: stage, number within the stage, and row of the block table."""

    stage: int
    index: int
    path: str
    module: nn.Module
    row: BlockRow


def find_blocks(backbone: Backbone) -> Iterator[Block]:
    """Yields blocks with a row in the block table, from input to output."""
    order = {name: i for i, (name, _) in enumerate(backbone.net.named_modules())}
    # HRNet's resolutions are parallel, so no layer ends a stage.
    if any(end not in order for end, _ in backbone.stage_ends):
        return
    counts: Counter[int] = Counter()
    for path, module in backbone.net.named_modules():
        row = row_of(module)
        # A stem takes pixels, and a block in a downsampling layer (RepViT) works at the resolution
        # of the stage before: neither belongs to a stage as the other blocks do.
        if row is None or path == "stem" or ".downsample." in path:
            continue
        stage = _stage_of(path, backbone.stage_ends, order)
        yield Block(stage, counts[stage], path, module, row)
        counts[stage] += 1


def _stage_of(path: str, stage_ends: tuple[tuple[str, int], ...], order: dict[str, int]) -> int:
    for end, stage in stage_ends:
        if order[path] <= order[end] or path.startswith(end + "."):
            return stage
    return stage_ends[-1][1]


def why_no_blocks(backbone: Backbone) -> str:
    """End of the error message about a backbone without sites: reason and remedy."""
    modules = dict(backbone.net.named_modules())
    apart = [end for end, _ in backbone.stage_ends if end not in modules]
    if apart:
        return (
            f"Its stages are not layers of the network ({apart[0]!r} is not one), so no block "
            "belongs to one stage: only networks without temporal modules (tsn) can be built on it."
        )
    # Stages, blocks and groups of layers inside them repeat; which of them is the block that the
    # branch and the identity path share, only the network's source tells.
    kinds = Counter(
        class_name(type(module))
        for module in modules.values()
        if not type(module).__module__.startswith("torch.nn")
        and sum(isinstance(part, nn.Conv2d | nn.Linear) for part in module.modules()) > 1
    )
    repeated = [f"{kind} ({count}x)" for kind, count in kinds.items() if count > 1]
    found = (
        f"It repeats {', '.join(repeated[:4])}, and none of these"
        if repeated
        else f"Its layers lie in {class_name(type(backbone.net))} without blocks, which"
    )
    return (
        f"{found} has {'a' if repeated else 'no'} row in kinema's block table, so only networks "
        "without temporal modules (tsn) can be built on it. Describe the block with "
        "kinema.models.blocks.register_blocks in a Python file and load that with kinema --plugin "
        "FILE.py."
    )


def is_backbone(name: str) -> bool:
    """True if `build_backbone` can build a network of this name."""
    return name in _not_of_timm() or timm.is_model(name)


def list_backbones() -> list[str]:
    """Lists the backbones that `list_models` combines with every family; other timm CNNs work too.

    Example:
        >>> "resnet50" in list_backbones()
        True
    """
    return sorted([*registered_backbones(), SLOWFAST])


def _not_of_timm() -> set[str]:
    own = {name for name, source in registered_backbones().items() if source.build is not None}
    return {*_TORCHVISION, *_OTHER_DEPTHS, SLOWFAST, *own}


def build_backbone(name: str, *, frames: int) -> Backbone:
    """Builds a backbone with random weights for clips of `frames` frames.

    Raises:
        UnknownNameError: neither timm, torchvision nor the block table has it; the message has
            the nearest name.
    """
    source = registered_backbones().get(name)
    if source is not None and source.build is not None:
        return _from_builder(name, source.build, source)
    if name in _TORCHVISION:
        return _from_torchvision(name)
    if name == SLOWFAST:
        return _slowfast(frames)
    if name in _OTHER_DEPTHS or timm.is_model(name):
        return _from_timm(name, source)
    known = {*list_backbones(), *timm.list_models(), *_not_of_timm()}
    raise UnknownNameError(f"Unknown backbone {name!r}. " + did_you_mean(name, known))


def _from_timm(name: str, source: BackboneSource | None) -> Backbone:
    nearest, layers = _OTHER_DEPTHS.get(name, (name, None))
    depth: dict[str, Any] = {} if layers is None else {"layers": layers}
    net: Any = timm.create_model(nearest, num_classes=0, **depth)  # timm's attributes are untyped
    config = net.pretrained_cfg
    classifier = config.get("classifier", "fc")
    split_res2net_blocks(net)
    return Backbone(
        name=name,
        net=net,
        features=int(net.head_hidden_size),
        stage_ends=_stage_ends(name, net, source),
        classifier=classifier if isinstance(classifier, str) else classifier[0],
        mean=cast(Triple, tuple(config["mean"])),
        std=cast(Triple, tuple(config["std"])),
    )


def _from_builder(name: str, build: Callable[[], nn.Module], source: BackboneSource) -> Backbone:
    net = build()
    # The network itself defines the width of the output; nothing is computed.
    probe = copy.deepcopy(net).to("meta").eval()
    features_ND = probe(torch.empty(1, 3, PROBE_PX, PROBE_PX, device="meta"))
    if features_ND.ndim != 2:
        raise OptionError(
            f"The backbone {name!r} returns {tuple(features_ND.shape)} for one frame; it must "
            "return (N, features). Pool over space and leave out the classifier."
        )
    return Backbone(
        name=name,
        net=net,
        features=int(features_ND.shape[1]),
        stage_ends=_stage_ends(name, net, source),
    )


def _stage_ends(
    name: str, net: nn.Module, source: BackboneSource | None
) -> tuple[tuple[str, int], ...]:
    """Stages of the row, or timm's: a reduction of 2**s is stage s."""
    if source is not None and source.stage_ends is not None:
        return source.stage_ends
    if not hasattr(net, "feature_info"):
        raise OptionError(
            f"The stages of the backbone {name!r} are not known. Give register_blocks its "
            'stage_ends, such as {"layer1": 2, "layer2": 3}.'
        )
    reductions = {info["module"]: int(info["reduction"]) for info in cast(Any, net.feature_info)}
    return tuple((end, reduction.bit_length() - 1) for end, reduction in reductions.items())


def _from_torchvision(name: str) -> Backbone:
    net = torchvision.models.get_model(name)
    features = cast(nn.Linear, net.fc).in_features
    net.fc = nn.Identity()
    return Backbone(
        name=name,
        net=net,
        features=features,
        stage_ends=(("stage2", 3), ("stage3", 4), ("stage4", 5)),
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
        slow="slow.",
        frame_stride=ALPHA,
        temporal_blocks=TEMPORAL_BLOCKS,
    )
