"""Networks by name: each family is a row that says which modules go to which sites."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kinema.errors import OptionError, UnknownNameError, did_you_mean
from kinema.models.backbones import BACKBONES, is_backbone
from kinema.models.network import VideoNetwork
from kinema.models.sites import Blocks
from kinema.models.weights import load_imagenet
from kinema.temporal import position_named, temporal_named


@dataclass(frozen=True)
class Row:
    """One temporal module of a family: its name, position, blocks and fixed options."""

    module: str
    at: str | None = None
    blocks: str = "all"
    options: tuple[tuple[str, Any], ...] = field(default=())


# The order of the rows of a family is the order in which its modules run at one site.
FAMILIES: dict[str, tuple[Row, ...]] = {
    "tsn": (),
    "tsm": (Row("tsm", blocks="all_or_even"),),
    "tim": (Row("tim"),),
}


def list_models(pattern: str = "*") -> list[str]:
    """The named networks that match a shell pattern, sorted.

    Any other timm backbone can be named in `create_model` the same way.

    Example:
        >>> list_models("tsm_resnet1*")
        ['tsm_resnet101', 'tsm_resnet18']
    """
    names = sorted(f"{family}_{backbone}" for family in FAMILIES for backbone in BACKBONES)
    return fnmatch.filter(names, pattern)


def create_model(  # noqa: PLR0913 - the public door to everything a network is
    name: str,
    *,
    classes: int,
    frames: int = 8,
    weights: str | Path | None = None,
    temporal: str | None = None,
    at: str | None = None,
    stages: Sequence[int] | None = None,
    blocks: Blocks | None = None,
    dropout: float = 0.5,
    **options: Any,
) -> VideoNetwork:
    """Builds a network: `<family>_<backbone>`, or a backbone with `temporal` modules in it.

    Args:
        name: Such as "tsm_resnet50" or, with `temporal`, "resnet50".
        classes: K.
        frames: T of every clip.
        weights: None, "imagenet", or the path of a weight file for the backbone. They are loaded
            before the temporal modules are inserted; `net.weights_report` says what was filled.
        temporal: A temporal module for a plain backbone name; "tsn" or None for none.
        at: Position inside the blocks, instead of the paper's.
        stages: Stage numbers 2 to 5; all stages when not given.
        blocks: See `VideoNetwork.insert`; the paper's choice when not given.
        dropout: Probability of dropping a feature before the classifier.
        **options: Options of the temporal module.

    Raises:
        UnknownNameError: a name or option does not exist; the message has the nearest one.
        SiteError: the placement matches no site of the backbone.
        CheckpointError: the weights do not fit the backbone.

    Example:
        >>> net = create_model("resnet18", temporal="tim", stages=(4, 5), classes=27, frames=8)
        >>> net.name
        'tim_resnet18'
    """
    family, backbone, rows = _resolve(name, temporal)
    _check_placement(family, rows, at=at, stages=stages, blocks=blocks, options=options)
    net = VideoNetwork(
        f"{family}_{backbone}", backbone, classes=classes, frames=frames, dropout=dropout
    )
    if weights is not None:
        net.weights_report = load_imagenet(net, weights)
    for row in rows:
        known = temporal_named(row.module).options
        given = {key: value for key, value in options.items() if key in known}
        net.insert(
            row.module,
            at=at if at is not None else row.at,
            stages=stages,
            blocks=blocks if blocks is not None else row.blocks,
            **{**dict(row.options), **given},
        )
    if net.weights_report is not None:
        new = [f"{n}.{p}" for n, m in net.temporal_modules() for p, _ in m.named_parameters()]
        report = net.weights_report
        net.weights_report = replace(report, new=(*report.new, *new))
    return net


def _resolve(name: str, temporal: str | None) -> tuple[str, str, tuple[Row, ...]]:
    """Family, backbone and rows of a name."""
    if temporal is not None:
        if not is_backbone(name):
            raise UnknownNameError(f"Unknown backbone {name!r}. " + did_you_mean(name, BACKBONES))
        if temporal in FAMILIES:
            return temporal, name, FAMILIES[temporal]
        return temporal, name, (Row(temporal_named(temporal).name),)
    for family in sorted(FAMILIES, key=len, reverse=True):
        backbone = name.removeprefix(f"{family}_")
        if backbone != name and is_backbone(backbone):
            return family, backbone, FAMILIES[family]
    if is_backbone(name):
        raise UnknownNameError(
            f"{name!r} is a backbone. Name a network, such as 'tsm_{name}', or add temporal='tsm'."
        )
    raise UnknownNameError(f"Unknown network {name!r}. " + did_you_mean(name, list_models()))


def _check_placement(
    family: str,
    rows: tuple[Row, ...],
    *,
    at: str | None,
    stages: Sequence[int] | None,
    blocks: Blocks | None,
    options: dict[str, Any],
) -> None:
    """Nothing that a user asks for may be ignored."""
    if at is not None:
        position_named(at)
    placement = {"at": at, "stages": stages, "blocks": blocks}
    given = [key for key, value in placement.items() if value is not None]
    if not rows and (given or options):
        raise OptionError(
            f"{family} has no temporal module, so it takes no {', '.join([*given, *options])}."
        )
    known = {option for row in rows for option in temporal_named(row.module).options}
    for option in options:
        if option not in known:
            raise UnknownNameError(
                f"{family} has no option {option!r}. " + did_you_mean(option, known)
            )
