"""Named networks: a family of `families.py` on a backbone, built, listed and explained."""

import difflib
import fnmatch
import functools
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinema.errors import OptionError, SiteError, UnknownNameError, did_you_mean
from kinema.models.backbones import is_backbone, list_backbones
from kinema.models.families import (
    ALIASES,
    RELATIONAL,
    SNIPPETS,
    STAGE_PRESETS,
    families,
)
from kinema.models.network import VideoNetwork
from kinema.models.placement import Blocks, Part
from kinema.models.shapes_only import shapes_only
from kinema.models.snippets import takes_snippets
from kinema.models.transfer import holds_network, load_network
from kinema.models.weights import COUNTER, load_imagenet, new_in_modules
from kinema.temporal import TemporalEntry, temporal_named
from kinema.temporal.trn import Subsets, evenly_spaced
from kinema.values import WeightsReport

# `weights` by timm's `pretrained`.
_PRETRAINED: dict[bool | None, str | None] = {True: "imagenet", False: None, None: None}


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
    pairs = [(family, backbone) for family in families() for backbone in list_backbones()]
    return dict(sorted((f"{family}_{backbone}", (family, backbone)) for family, backbone in pairs))


def _fits(family: str, backbone: str) -> bool:
    """True if the backbone takes the family's snippets and every module of it."""
    if SNIPPETS.get(family, 1) > 1:
        net = _skeleton(backbone)
        if net is None or not takes_snippets(net.backbone):
            return False
    return all(_accepts(backbone, part, temporal_named(part.module)) for part in families()[family])


@functools.cache
def _accepts(backbone: str, part: Part, entry: TemporalEntry) -> bool:
    """Tries `insert` without weights; the entry is part of the cache key.

    A user's backbone or module that reads weights in its constructor cannot be built without them.
    It counts as fitting: `create_model` builds it or gives the reason, while a network that works
    must not be missing in the list. Modules of kinema read none, so their errors are faults.
    """
    try:
        net = _skeleton(backbone)
        if net is None:
            return True
        with shapes_only():
            net.check_insert(
                part.module,
                at=part.at,
                stages=_stages_named(part.stages),
                blocks="all" if part.blocks is None else part.blocks,
                **part.options,
            )
    except (OptionError, SiteError):
        return False
    # PyTorch raises it, or its subclass NotImplementedError, for values of tensors without data.
    except RuntimeError:
        if entry.module.__module__.startswith("kinema."):
            raise
    return True


@functools.cache
def _skeleton(backbone: str) -> VideoNetwork | None:
    """The backbone on the meta device; None if it reads weights in its constructor."""
    try:
        with shapes_only():
            return VideoNetwork(backbone, backbone, classes=2, frames=8)
    except RuntimeError:
        return None


def create_model(  # noqa: PLR0913 - the public door to everything a network is
    name: str,
    *,
    classes: int | None = None,
    frames: int = 8,
    weights: str | Path | None = None,
    temporal: str | None = None,
    parts: Sequence[Part] | None = None,
    at: str | None = None,
    stages: Sequence[int] | str | None = None,
    blocks: Blocks | None = None,
    dropout: float = 0.5,
    causal: bool = False,
    temporal_pool: bool = False,
    relations: Subsets | None = None,
    num_classes: int | None = None,
    pretrained: bool | None = None,
    **options: Any,
) -> VideoNetwork:
    """Builds a network: `<family>_<backbone>`, or a backbone with `temporal` modules in it.

    Args:
        name: Such as "tsm_resnet50" or, with `temporal`, "resnet50". Mixes are joined by "+", such
            as "mem+tsm_resnet50": at one place the modules run in this order.
        classes: K.
        frames: T of every clip.
        weights: None, "imagenet" (torchvision's first file, such as resnet50.tv_in1k, else timm's
            default; of another with a name such as "tsm_resnet50.a1_in1k" that one), the path of
            a weight file for the backbone, or a kinema
            checkpoint (folder or its model.safetensors) of the same network on other classes: all
            but the classifier is taken over. So it is from a published network, "kinetics400" for
            the one with this name or a name such as "tsm_resnet50:kinetics400-16f", and from an
            address of the Hugging Face Hub, "hf://owner/repository".
            `net.weights_report` says what was filled.
        temporal: A family, a temporal module or a mix for a plain backbone name.
        parts: Instead of `temporal`, modules that each have their own placement and options. The
            arguments below apply to those without. The same module may be in several places.
        at: Position inside the blocks, instead of the paper's.
        stages: Stage numbers 2 to 5, "default" (the paper's) or "efficient" (4 and 5, TEINet's
            choice where the cost counts).
        blocks: See `VideoNetwork.insert`; the paper's choice when not given.
        dropout: Probability of dropping a feature before the classifier.
        causal: No frame looks ahead.
        temporal_pool: Halves the frames in front of res3; see `VideoNetwork.pool_frames`.
        relations: Subsets of the frames that a `trn` relates, for each length from T down to 2;
            evenly spaced ones when not given.
        num_classes: timm's and torchvision's name of `classes`; works, with a warning.
        pretrained: Their name of weights="imagenet" (True) and None (False); likewise.
        **options: Options of the temporal module.

    Raises:
        UnknownNameError: a name or option does not exist; the message has the nearest one.
        SiteError: the placement matches no site of the backbone.
        OptionError: a module or the backbone has no causal form, an option a wrong value, a mix
            contains a module twice, or the number of classes is missing.
        CheckpointError: the weights do not fit the backbone, or the network.
        FetchError: a published network cannot be fetched.

    Example:
        >>> net = create_model("resnet18", temporal="tim", stages=(4, 5), classes=27, frames=8)
        >>> net.name
        'tim_resnet18'
    """
    classes = _aliased("classes", classes, "num_classes", num_classes, num_classes)
    if classes is None:
        raise OptionError(f"classes is missing, the number of classes of {name}.")
    weights = _aliased("weights", weights, "pretrained", pretrained, _PRETRAINED.get(pretrained))
    family, backbone, rows = _resolve(name, temporal, parts)
    shared = Part("", at=at, stages=stages, blocks=blocks, options=options)
    _check_shared(family, rows, shared)
    net = VideoNetwork(
        f"{family}_{backbone}",
        backbone,
        classes=classes,
        frames=frames,
        dropout=dropout,
        relations=_relations(family, relations, frames=frames, causal=causal),
    )
    snippet = max(SNIPPETS.get(word, 1) for word in family.split("+"))
    if causal:
        _check_causal_form(net.name, snippet, temporal_pool=temporal_pool)
    # Published weights go in before the modules, under the backbone's own names, so that modules
    # that take the place of a convolution start from its weights.
    trained = None if weights is None else _fill_backbone(net, weights)
    filled = {id(tensor) for tensor in net.backbone.state_dict(keep_vars=True).values()}
    if temporal_pool:
        net.pool_frames()
    if snippet > 1:
        net.take_snippets(snippet)
    for asked, published in rows:
        _insert(net, asked, published, shared, causal=causal)
    if causal:
        _check_looks_back(net, backbone)
    # A trained network is taken over as a whole, with the weights of its modules.
    if trained is not None:
        net.weights_report = load_network(net, trained)
    elif net.weights_report is not None:
        net.weights_report = _after_insertion(net, net.weights_report, filled)
    return net


def _relations(family: str, given: Subsets | None, *, frames: int, causal: bool) -> Subsets | None:
    """Subsets of the frames for the head of a family; None for a mean."""
    if not any(word in RELATIONAL for word in family.split("+")):
        if given is not None:
            raise OptionError(f"{family} has no relations: they are for {', '.join(RELATIONAL)}.")
        return None
    if causal:
        raise OptionError(
            f"{family} has no causal form, because its scores depend on the whole clip."
        )
    return evenly_spaced(frames) if given is None else given


def _fill_backbone(net: VideoNetwork, weights: str | Path) -> str | Path | None:
    """Fills the backbone; or returns the file of a trained network, for when its modules are in."""
    # Imported here: converting a published file builds networks with `create_model`.
    from kinema.models.published.folder import weights_folder

    weights = weights_folder(weights, net.name)
    if holds_network(weights):
        return weights
    net.weights_report = load_imagenet(net, weights)
    return None


def _check_looks_back(net: VideoNetwork, backbone: str) -> None:
    if net.reach.look_ahead != 0:
        raise OptionError(
            f"{backbone} itself looks ahead, so {net.name} has no causal form. Choose another "
            "backbone."
        )


def _aliased(name: str, value: Any, alias: str, given: Any, meaning: Any) -> Any:
    """Value of an argument, or the meaning of its alias with a warning that names it.

    Raises:
        OptionError: both are given.
    """
    if given is None:
        return value
    if value is not None:
        raise OptionError(f"{alias} is another name of {name}: give only {name}={value!r}.")
    if alias == "pretrained" and not isinstance(given, bool):
        raise OptionError(f"pretrained is True or False: give weights={given!r}.")
    warnings.warn(f"In kinema {alias}={given!r} is {name}={meaning!r}.", stacklevel=3)
    return meaning


def family_and_backbone(name: str) -> tuple[str, str]:
    """Splits the name of a network.

    Raises:
        UnknownNameError: there is no such network.

    Example:
        >>> family_and_backbone("tanet_resnet50")
        ('tam', 'resnet50')
    """
    family, backbone, _ = _resolve(name, None, None)
    return family, backbone


def _check_causal_form(name: str, snippet: int, *, temporal_pool: bool) -> None:
    """Raises OptionError for parts of the backbone that look ahead."""
    if temporal_pool:
        raise OptionError("temporal_pool has no causal form, because it looks a frame ahead.")
    if snippet > 1:
        raise OptionError(
            f"{name} has no causal form, because its snippets of {snippet} frames go "
            f"{snippet // 2} frames beyond the one in their center."
        )


def _insert(net: VideoNetwork, asked: Part, published: Part, shared: Part, *, causal: bool) -> None:
    """Inserts a part: as asked, else as for all parts, else as in the paper."""
    known = temporal_named(published.module).options
    if causal and "causal" not in known:
        raise OptionError(f"Temporal module {published.module!r} has no causal form.")
    fitting = {key: value for key, value in shared.options.items() if key in known}
    part = asked.over(replace(shared, options=fitting))
    part = replace(part, stages=_stages_named(part.stages)).over(published)
    net.insert(
        published.module,
        at=part.at,
        stages=_stages_named(part.stages),
        blocks=_own_blocks(net, part) if part.blocks is None else part.blocks,
        **{**part.options, **({"causal": True} if causal else {})},
    )


def _own_blocks(net: VideoNetwork, part: Part) -> Blocks:
    """Blocks with temporal modules in the backbone's paper, or all."""
    own = net.facts.temporal_blocks
    if own is None:
        return "all"
    return {s: blocks for s, blocks in own.items() if part.stages is None or s in part.stages}


def _after_insertion(net: VideoNetwork, report: WeightsReport, filled: set[int]) -> WeightsReport:
    """Updates the report to the tensor names after insertion, including those of the modules."""
    parts: dict[str, list[str]] = {"copied": [], "derived": [], "new": []}
    new_names = new_in_modules(net).union(report.new)
    for name, tensor in net.state_dict(keep_vars=True).items():
        if id(tensor) in filled:
            parts["copied"].append(name)
        elif not name.endswith(COUNTER):
            parts["new" if name in new_names else "derived"].append(name)
    copied, derived, new = map(tuple, parts.values())
    return replace(report, copied=copied, derived=derived, new=new)


def _stages_named(stages: Sequence[int] | str | None) -> Sequence[int] | None:
    if not isinstance(stages, str):
        return stages
    if stages not in STAGE_PRESETS:
        raise UnknownNameError(f"Unknown stages {stages!r}. " + did_you_mean(stages, STAGE_PRESETS))
    return STAGE_PRESETS[stages]


# For each module the part as asked for, and the paper's, which fills in what it leaves open.
Rows = tuple[tuple[Part, Part], ...]


def _resolve(
    name: str, temporal: str | None, parts: Sequence[Part] | None
) -> tuple[str, str, Rows]:
    """Resolves a name to family, backbone and rows."""
    if temporal is not None and parts is not None:
        raise OptionError(f"Give either parts or temporal={temporal!r}.")
    asked = temporal if parts is None else parts
    if asked is not None:
        if not is_backbone(name):
            near = did_you_mean(name, list_backbones())
            raise UnknownNameError(f"Unknown backbone {name!r}. {near}")
        family, rows = _mix(asked) if isinstance(asked, str) else _listed(asked)
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


def _mix(mix: str) -> tuple[str, Rows]:
    """Canonical name and rows of a family, a module, or several joined by "+"."""
    words = [ALIASES.get(word, word) for word in mix.split("+")]
    parts = [part for word in words for part in _parts_of(word)]
    for module in (part.module for part in parts):
        having = [w for w in words if module in (part.module for part in _parts_of(w))]
        if len(having) > 1:
            raise OptionError(
                f"{mix} has the temporal module {module!r} twice: in {' and '.join(having)}. "
                "Leave one out or, to have both, list the modules with their positions as parts."
            )
    return "+".join(words), tuple((Part(part.module), part) for part in parts)


def _listed(parts: Sequence[Part]) -> tuple[str, Rows]:
    """Name and rows of parts that are listed one by one."""
    if not parts:
        raise OptionError("parts is empty: list a module, or build the plain backbone with 'tsn'.")
    rows = []
    for part in parts:
        word = ALIASES.get(part.module, part.module)
        modules = _parts_of(word)
        if len(modules) != 1:
            inside = " and ".join(row.module for row in modules) or "no temporal module"
            raise OptionError(
                f"A part is one module, but {word} has {inside}. List each as a part."
            )
        rows.append((part, modules[0]))
    return "+".join(ALIASES.get(part.module, part.module) for part in parts), tuple(rows)


def _parts_of(word: str) -> tuple[Part, ...]:
    """Parts of a family, or of a temporal module that has none."""
    known = families()
    return known[word] if word in known else (Part(temporal_named(word).name),)


def _check_shared(family: str, rows: Rows, shared: Part) -> None:
    """Raises an error for placements and options for all parts that no part uses."""
    placement = {key: getattr(shared, key) for key in ("at", "stages", "blocks")}
    given = [key for key, value in placement.items() if value is not None]
    if not rows and (given or shared.options):
        raise OptionError(
            f"{family} has no temporal module, so it takes no "
            f"{', '.join([*given, *shared.options])}."
        )
    users = {key: [getattr(asked, key) is not None for asked, _ in rows] for key in given}
    known = {option for _, row in rows for option in temporal_named(row.module).options}
    for option in shared.options:
        if option not in known - {"causal"}:
            near = did_you_mean(option, known - {"causal"})
            raise UnknownNameError(f"{family} has no option {option!r}. {near}")
        users[option] = [
            option in asked.options
            for asked, row in rows
            if option in temporal_named(row.module).options
        ]
    for key, has_own in users.items():
        if all(has_own):
            raise OptionError(f"{key} has no effect: every part of {family} has its own.")
