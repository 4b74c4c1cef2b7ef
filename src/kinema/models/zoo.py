"""Named networks: each family is a row of modules and their placements."""

import difflib
import fnmatch
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kinema.errors import OptionError, SiteError, UnknownNameError, did_you_mean
from kinema.models.backbones import is_backbone, listed_backbones
from kinema.models.network import VideoNetwork
from kinema.models.placement import Blocks
from kinema.models.transfer import holds_network, load_network
from kinema.models.weights import load_imagenet
from kinema.temporal import TemporalEntry, list_temporal, position_named, temporal_named
from kinema.values import WeightsReport


@dataclass(frozen=True)
class Row:
    """Temporal module of a family, with deviations from the module's defaults.

    Of several positions in `at`, the first one in the backbone is used: the second is the
    substitute in blocks of two convolutions.
    """

    module: str
    at: tuple[str, ...] | None = None
    stages: tuple[int, ...] | None = None
    blocks: str = "all"
    options: tuple[tuple[str, Any], ...] = ()


_BEHIND_CONV1 = ("after_conv1",)
_BEHIND_CONV2 = ("after_conv2", "after_conv1")
_NON_LOCAL = Row("nl", stages=(3, 4), blocks="even")

# Modules of a family run in the order of its rows if they share a site.
FAMILIES: dict[str, tuple[Row, ...]] = {
    # The plain network, and its baselines.
    "tsn": (),
    "c2d_pool": (Row("tpool"),),
    "c2d_tconv": (Row("tconv"),),
    "i3d": (Row("i3d"),),
    "c3d": (Row("c3d"),),
    "nl": (_NON_LOCAL,),
    # TSM and its successors.
    "tsm": (Row("tsm", blocks="all_or_even"),),
    "tsm_nl": (Row("tsm", blocks="all_or_even"), _NON_LOCAL),
    "tin": (Row("tin"),),
    "gsm": (Row("gsm"),),
    # TEINet and its ablations.
    "tim": (Row("tim"),),
    "mem": (Row("mem"),),
    "tei": (Row("mem"), Row("tim")),
    "se_tim": (Row("se"), Row("tim")),
    # TEA, its ablations, and the (2+1)D networks of its supplement.
    "r2plus1d_conv": (Row("tconv"),),
    "r2plus1d_cw": (Row("tim", at=_BEHIND_CONV1, options=(("init", "random"),)),),
    "r2plus1d_shift": (Row("tim", at=_BEHIND_CONV1),),
    "me": (Row("me"), Row("tim", at=_BEHIND_CONV1)),
    "mta": (Row("mta"),),
    "tea": (Row("me"), Row("mta")),
    # Grouped convolutions.
    "gst": (Row("gst"),),
    "gst_large": (Row("gst", options=(("beta", 1),)),),
    "gte": (Row("gte"),),
    # TSI and its ablations.
    "sme": (Row("sme"), Row("tim", at=_BEHIND_CONV2)),
    "cti": (Row("cti"),),
    "tsi": (Row("tsi"),),
    "stm": (Row("stm"),),
    # TANet and its ablations.
    "tam": (Row("tam"),),
    "tam_global": (Row("tam", options=(("branches", "global"),)),),
    "tam_local": (Row("tam", options=(("branches", "local"),)),),
    "tam_se": (Row("tam", options=(("branches", "global_se"),)),),
    "tam_reverse": (Row("tam", options=(("reverse", True),)),),
}

# Other names of the literature.
ALIASES = {"c2d": "tsn", "tanet": "tam", "teinet": "tei"}

# TEINet, section 4.3: all stages, or the last two for efficiency.
STAGE_PRESETS: dict[str, tuple[int, ...] | None] = {"default": None, "efficient": (4, 5)}


def list_models(pattern: str = "*") -> list[str]:
    """Lists named networks that match a shell pattern, sorted.

    Excludes families that do not fit a backbone; `create_model` gives the reason. Other timm
    backbones can be named in `create_model` the same way.

    Example:
        >>> list_models("tsm_resnet1*")
        ['tsm_resnet101', 'tsm_resnet18']
    """
    names = _all_names()
    return [name for name in fnmatch.filter(names, pattern) if _fits(*names[name])]


def _all_names() -> dict[str, tuple[str, str]]:
    """Family and backbone of `<family>_<backbone>` for every combination, sorted by name."""
    pairs = [(family, backbone) for family in families() for backbone in listed_backbones()]
    return dict(sorted((f"{family}_{backbone}", (family, backbone)) for family, backbone in pairs))


def _fits(family: str, backbone: str) -> bool:
    """True if every module of the family can be inserted in the backbone."""
    return all(_accepts(backbone, row, temporal_named(row.module)) for row in families()[family])


@functools.cache
def _accepts(backbone: str, row: Row, _entry: TemporalEntry) -> bool:
    """Tries `insert` on the meta device; the entry is part of the cache key."""
    with torch.device("meta"):
        try:
            _skeleton(backbone).check_insert(
                row.module, at=row.at, stages=row.stages, blocks=row.blocks, **dict(row.options)
            )
        except (OptionError, SiteError):
            return False
        except (NotImplementedError, RuntimeError):
            # A user's module that reads weights in its constructor cannot run on the meta device.
            return True
    return True


@functools.cache
def _skeleton(backbone: str) -> VideoNetwork:
    with torch.device("meta"):
        return VideoNetwork(backbone, backbone, classes=2, frames=8)


def families() -> dict[str, tuple[Row, ...]]:
    """Families of the papers, and one for every other registered temporal module."""
    inside = {row.module for rows in FAMILIES.values() for row in rows}
    others = {name: (Row(name),) for name in list_temporal() if name not in inside}
    return {**FAMILIES, **others}


def create_model(  # noqa: PLR0913 - the public door to everything a network is
    name: str,
    *,
    classes: int,
    frames: int = 8,
    weights: str | Path | None = None,
    temporal: str | None = None,
    at: str | None = None,
    stages: Sequence[int] | str | None = None,
    blocks: Blocks | None = None,
    dropout: float = 0.5,
    causal: bool = False,
    **options: Any,
) -> VideoNetwork:
    """Builds a network: `<family>_<backbone>`, or a backbone with `temporal` modules in it.

    Args:
        name: Such as "tsm_resnet50" or, with `temporal`, "resnet50". Mixes are joined by "+", such
            as "mem+tsm_resnet50": at one place the modules run in this order.
        classes: K.
        frames: T of every clip.
        weights: None, "imagenet", the path of a weight file for the backbone, or a kinema
            checkpoint (folder or its model.safetensors) of the same network on other classes: all
            but the classifier is taken over. `net.weights_report` says what was filled.
        temporal: A family, a temporal module or a mix for a plain backbone name.
        at: Position inside the blocks, instead of the paper's.
        stages: Stage numbers 2 to 5, "default" (the paper's) or "efficient" (4 and 5, TEINet's
            choice where the cost counts).
        blocks: See `VideoNetwork.insert`; the paper's choice when not given.
        dropout: Probability of dropping a feature before the classifier.
        causal: No frame looks ahead.
        **options: Options of the temporal module.

    Raises:
        UnknownNameError: a name or option does not exist; the message has the nearest one.
        SiteError: the placement matches no site of the backbone.
        OptionError: a module or the backbone has no causal form, or an option a wrong value.
        CheckpointError: the weights do not fit the backbone, or the network.

    Example:
        >>> net = create_model("resnet18", temporal="tim", stages=(4, 5), classes=27, frames=8)
        >>> net.name
        'tim_resnet18'
    """
    family, backbone, rows = _resolve(name, temporal)
    stages = _stages_named(stages)
    _check_placement(family, rows, at=at, stages=stages, blocks=blocks, options=options)
    net = VideoNetwork(
        f"{family}_{backbone}", backbone, classes=classes, frames=frames, dropout=dropout
    )
    # Published weights go in before the modules, under the backbone's own names, so that modules
    # that take the place of a convolution start from its weights.
    trained = weights if weights is not None and holds_network(weights) else None
    if weights is not None and trained is None:
        net.weights_report = load_imagenet(net, weights)
    filled = {id(tensor) for tensor in net.backbone.state_dict(keep_vars=True).values()}
    for row in rows:
        net.insert(
            row.module,
            at=at if at is not None else row.at,
            stages=stages if stages is not None else row.stages,
            blocks=blocks if blocks is not None else _own_blocks(net, row, stages),
            **_options_for(row, options, causal=causal),
        )
    if causal and net.reach.look_ahead != 0:
        raise OptionError(
            f"{backbone} itself looks ahead, so {net.name} has no causal form. Choose another "
            "backbone."
        )
    # A trained network is taken over as a whole, with the weights of its modules.
    if trained is not None:
        net.weights_report = load_network(net, trained)
    elif net.weights_report is not None:
        net.weights_report = _after_insertion(net, net.weights_report, filled)
    return net


def family_and_backbone(name: str) -> tuple[str, str]:
    """Splits the name of a network.

    Raises:
        UnknownNameError: there is no such network.

    Example:
        >>> family_and_backbone("tanet_resnet50")
        ('tam', 'resnet50')
    """
    family, backbone, _ = _resolve(name, None)
    return family, backbone


def _options_for(row: Row, options: dict[str, Any], *, causal: bool) -> dict[str, Any]:
    """Options of the row, and the user's options that its module has."""
    known = temporal_named(row.module).options
    if causal and "causal" not in known:
        raise OptionError(f"Temporal module {row.module!r} has no causal form.")
    given = {key: value for key, value in options.items() if key in known}
    return {**dict(row.options), **given, **({"causal": True} if causal else {})}


def _own_blocks(net: VideoNetwork, row: Row, stages: Sequence[int] | None) -> Blocks:
    """Blocks of the row, or those with temporal modules in the backbone's paper."""
    own = net.facts.temporal_blocks
    if row.blocks != "all" or own is None:
        return row.blocks
    return {stage: blocks for stage, blocks in own.items() if stages is None or stage in stages}


def _after_insertion(net: VideoNetwork, report: WeightsReport, filled: set[int]) -> WeightsReport:
    """Updates the report to the tensor names after insertion, including those of the modules."""
    parts: dict[str, list[str]] = {"copied": [], "derived": [], "new": []}
    inherited = tuple(
        f"{name}.{part}" for name, module in net.temporal_modules() for part in module.inherited
    )
    for name, tensor in net.state_dict(keep_vars=True).items():
        if id(tensor) in filled:
            parts["copied"].append(name)
        elif not name.endswith("num_batches_tracked"):
            parts["derived" if name.startswith(inherited) else "new"].append(name)
    copied, derived, new = map(tuple, parts.values())
    return replace(report, copied=copied, derived=derived, new=new)


def _stages_named(stages: Sequence[int] | str | None) -> Sequence[int] | None:
    if not isinstance(stages, str):
        return stages
    if stages not in STAGE_PRESETS:
        raise UnknownNameError(f"Unknown stages {stages!r}. " + did_you_mean(stages, STAGE_PRESETS))
    return STAGE_PRESETS[stages]


def _resolve(name: str, temporal: str | None) -> tuple[str, str, tuple[Row, ...]]:
    """Resolves a name to family, backbone and rows."""
    if temporal is not None:
        if not is_backbone(name):
            near = did_you_mean(name, listed_backbones())
            raise UnknownNameError(f"Unknown backbone {name!r}. {near}")
        family, rows = _mix(temporal)
        return family, name, rows
    if is_backbone(name):
        raise UnknownNameError(
            f"{name!r} is a backbone. Name a network, such as 'tsm_{name}', or add temporal='tsm'."
        )
    for cut in range(len(name) - 1, 0, -1):
        if name[cut] == "_" and is_backbone(name[cut + 1 :]) and _known(name[:cut]):
            family, rows = _mix(name[:cut])
            return family, name[cut + 1 :], rows
    # Only the nearest names are tried on their backbones.
    names = _all_names()
    nearest = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    near = did_you_mean(name, [n for n in nearest if _fits(*names[n])] or names)
    raise UnknownNameError(f"Unknown network {name!r}. {near} `kinema models` lists all.")


def _known(mix: str) -> bool:
    return all(part in ALIASES or part in families() for part in mix.split("+"))


def _mix(mix: str) -> tuple[str, tuple[Row, ...]]:
    """Canonical name and rows of a family, a module, or several joined by "+"."""
    names: list[str] = []
    rows: list[Row] = []
    for part in mix.split("+"):
        name = ALIASES.get(part, part)
        known = families()
        names.append(name)
        rows.extend(known[name] if name in known else (Row(temporal_named(name).name),))
    return "+".join(names), tuple(rows)


def _check_placement(
    family: str,
    rows: tuple[Row, ...],
    *,
    at: str | None,
    stages: Sequence[int] | None,
    blocks: Blocks | None,
    options: dict[str, Any],
) -> None:
    """Raises an error for options that no module of the family uses."""
    if at is not None:
        position_named(at)
    placement = {"at": at, "stages": stages, "blocks": blocks}
    given = [key for key, value in placement.items() if value is not None]
    if not rows and (given or options):
        raise OptionError(
            f"{family} has no temporal module, so it takes no {', '.join([*given, *options])}."
        )
    known = {option for row in rows for option in temporal_named(row.module).options} - {"causal"}
    for option in options:
        if option not in known:
            raise UnknownNameError(
                f"{family} has no option {option!r}. " + did_you_mean(option, known)
            )
