"""Sites: the places in a backbone's blocks where temporal modules are put in and taken out.

A site belongs to one layer of the backbone. The first module that comes to it wraps that layer in
a `SiteLayer`; taking the last one out unwraps it again, so a network without modules is the plain
backbone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from kinema.errors import OptionError, SiteError
from kinema.models.backbones import Backbone
from kinema.models.blocks import Block, find_blocks, owner_of
from kinema.temporal import POSITIONS, Position, TemporalEntry, TemporalModule
from kinema.temporal.sequence import run_in_order

Side = Literal["before", "after", "instead"]

# A word of BLOCK_WORDS, a number of blocks counted from the output, block numbers for every stage,
# or block numbers by stage.
Blocks = str | int | Sequence[int] | Mapping[int, Sequence[int]]
BLOCK_WORDS = ("all", "first", "even", "all_or_even")

# TSM's code skips every second block in all stages when one stage has this many (ResNet-101).
DEEP_STAGE_BLOCKS = 23


class SiteLayer(nn.Module):
    """A layer of the backbone with temporal modules in front of it, behind it or instead of it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.before = nn.ModuleDict()
        self.layer = layer
        self.after = nn.ModuleDict()
        # The layer that the module of this name has replaced. In a tuple it is no part of the
        # network: not counted, not saved.
        self.replaced: tuple[nn.Module, ...] = ()
        self.replaced_by = ""
        for own in (self, self.before, self.after):  # and not frozen norms inside the layer
            own.training = layer.training

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Runs the modules in front, the layer, and the modules behind."""
        if self.before:
            x_NCHW = run_in_order(self.before.values(), x_NCHW)
        x_NCHW = self.layer(x_NCHW)
        return run_in_order(self.after.values(), x_NCHW) if self.after else x_NCHW

    @property
    def empty(self) -> bool:
        """Whether no temporal module is left."""
        return not (self.before or self.after or self.replaced)


@dataclass(frozen=True)
class Site:
    """One place for a temporal module.

    Attributes:
        stage: s for features at 1/2**s of the input size (res2 to res5 of the papers).
        block: Number of the block inside its stage, from 0.
        at: Position inside the block.
        channels: Width at this place.
        path: Name of the backbone's layer that the site belongs to.
        frame_stride: Frames of the clip for each frame that passes here.
        modules: Names of the temporal modules that are in it, in the order they run.
    """

    stage: int
    block: int
    at: Position
    channels: int
    path: str
    frame_stride: int = 1
    modules: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"res{self.stage}.{self.block} {self.at}"


@dataclass(frozen=True)
class _Place:
    """A site with the objects behind it."""

    site: Site
    parent: nn.Module
    leaf: str
    side: Side

    @property
    def layer(self) -> nn.Module:
        return self.parent.get_submodule(self.leaf)


class SiteMap:
    """All sites of one backbone, with what is inserted in them."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone_name = backbone.name
        self._places = [
            place for block in find_blocks(backbone) for place in _places_of(block, backbone)
        ]

    @property
    def stages(self) -> list[int]:
        """The stages that have sites."""
        return sorted({place.site.stage for place in self._places})

    def sites(self) -> tuple[Site, ...]:
        """Every site with the names of the modules that are in it."""
        return tuple(
            Site(**{**vars(place.site), "modules": _modules_in(place)}) for place in self._places
        )

    def offers(self, at: Position) -> bool:
        """Whether any block has a site at this position."""
        return any(place.site.at == at for place in self._places)

    def match(self, at: Position, stages: Sequence[int] | None, blocks: Blocks) -> list[Site]:
        """The sites of a placement, from input to output.

        Raises:
            SiteError: no site matches, or a named stage or block does not exist.
        """
        here = [place.site for place in self._places if place.site.at == at]
        if not here:
            offered = sorted({p.site.at for p in self._places}, key=POSITIONS.index)
            raise SiteError(
                f"{self.backbone_name} has no site {at!r}. "
                + (f"It offers: {', '.join(offered)}." if offered else NO_BLOCKS)
            )
        for stage in stages if stages is not None else ():
            if all(site.stage != stage for site in here):
                raise SiteError(
                    f"{self.backbone_name} has no site {at!r} in stage {stage}. Stages that have "
                    f"one: {', '.join(str(s) for s in sorted({s.stage for s in here}))}."
                )
        wanted = [s for s in here if stages is None or s.stage in stages]
        if blocks == "all_or_even":
            blocks = "even" if any(s.block + 1 >= DEEP_STAGE_BLOCKS for s in here) else "all"
        chosen = _choose_blocks(wanted, blocks)
        if not chosen:
            raise SiteError(
                f"blocks={blocks!r} matches no site {at!r} of {self.backbone_name} in stages "
                f"{sorted({s.stage for s in wanted})}."
            )
        return chosen

    def inserted(self) -> list[tuple[Site, TemporalModule]]:
        """Every module that is in a site, from input to output."""
        return [(place.site, m) for place in self._places for m in _found_in(place).values()]

    def insert(
        self,
        entry: TemporalEntry,
        sites: Sequence[Site],
        *,
        frames: int,
        options: Mapping[str, Any],
    ) -> list[TemporalModule]:
        """Builds a module for every site and puts them in: all of them, or none on an error.

        Raises:
            SiteError: the same module, or another replacement, is already there.
            OptionError: the module refuses its options, or the width of a site.
        """
        places = [self._place(site) for site in sites]
        built = [_build(place, entry, frames=frames, options=options) for place in places]
        for place, module in zip(places, built, strict=True):
            _put_in(place, entry.name, module)
        return built

    def remove(self, name: str | None = None) -> int:
        """Takes out all modules of this name (all modules for None); returns how many.

        A replaced convolution comes back with the weights it had when it was replaced, or with
        trained ones where its module has gone on using it (STM, MTA).
        """
        removed = 0
        for place in self._places:
            host = place.layer
            if not isinstance(host, SiteLayer):
                continue
            for found in _modules_in(place):
                if name in (None, found):
                    _take_out(host, place.side, found)
                    removed += 1
            if host.empty:
                setattr(place.parent, place.leaf, host.layer)
        return removed

    def _place(self, site: Site) -> _Place:
        for place in self._places:
            if (place.site.stage, place.site.block, place.site.at) == (
                site.stage,
                site.block,
                site.at,
            ):
                return place
        raise SiteError(f"{self.backbone_name} has no site {site}.")


NO_BLOCKS = (
    "Its blocks are of a kind that kinema does not know, so only networks without temporal "
    "modules (tsn) can be built on it."
)


def _places_of(block: Block, backbone: Backbone) -> list[_Place]:
    """The sites of one block, in the order in which data passes them."""
    form, stride = block.form, backbone.stride_at(block.path)
    layers: list[tuple[Position, str | None, Side]] = [
        ("replace_conv1", form.conv1, "instead"),
        ("after_conv1", form.conv2, "before"),
        ("replace_conv2", form.conv2, "instead"),
        ("after_conv2", form.conv3, "before"),
        ("replace_conv3", form.conv3, "instead"),
    ]
    if form.carries_input(block.module):
        layers = [
            ("before_conv1", form.conv1, "before"),
            *layers,
            ("before_addition", form.end, "after"),
        ]
    found = []
    for at, name, side in layers:
        if name is None:
            continue
        parent, leaf = owner_of(block.module, name)
        width = _width(block.module.get_submodule(name), "out" if side == "after" else "in")
        site = Site(block.stage, block.index, at, width, f"{block.path}.{name}", stride)
        found.append(_Place(site, parent, leaf, side))
    parent, leaf = owner_of(backbone.net, block.path)

    def around(at: Position, width: int, side: Side) -> _Place:
        site = Site(block.stage, block.index, at, width, block.path, stride)
        return _Place(site, parent, leaf, side)

    start = around("block", _width(block.module.get_submodule(form.conv1), "in"), "before")
    if form.widening is None:
        return [start, *found]
    last = form.end or form.conv1
    width = _width(block.module.get_submodule(last), "out") * form.widening
    return [start, *found, around("after_block", width, "after")]


def _width(layer: nn.Module, end: Literal["in", "out"]) -> int:
    """Channels that enter or leave a convolution, a norm, or a conv-norm-act group."""
    layer = getattr(layer, "conv", layer)
    for name in (f"{end}_channels", "num_features"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    raise AssertionError(f"no width in {type(layer).__name__}")


def _modules_in(place: _Place) -> tuple[str, ...]:
    return tuple(_found_in(place))


def _found_in(place: _Place) -> dict[str, TemporalModule]:
    """The temporal modules of a site by name, in the order they run."""
    host = place.layer
    if not isinstance(host, SiteLayer):
        return {}
    if place.side == "instead":
        found = {host.replaced_by: host.layer} if host.replaced else {}
    else:
        found = dict((host.before if place.side == "before" else host.after).items())
    return {name: m for name, m in found.items() if isinstance(m, TemporalModule)}


def _build(
    place: _Place, entry: TemporalEntry, *, frames: int, options: Mapping[str, Any]
) -> TemporalModule:
    site, layer = place.site, place.layer
    if entry.name in _modules_in(place):
        raise SiteError(f"{entry.name!r} is already inserted at {site}.")
    frames //= site.frame_stride
    if place.side != "instead":
        return entry.build(site.channels, frames=frames, options=options)
    if isinstance(layer, SiteLayer):
        if layer.replaced:
            raise SiteError(f"{site} is already taken by {layer.replaced_by!r}.")
        layer = layer.layer
    return entry.module.from_conv(layer, frames=frames, **options)


def _put_in(place: _Place, name: str, module: TemporalModule) -> None:
    layer = place.layer
    host = layer if isinstance(layer, SiteLayer) else SiteLayer(layer)
    _like(module, layer).train(layer.training)
    if place.side == "instead":
        host.replaced, host.replaced_by = (host.layer,), name
        host.layer = module
    else:
        (host.before if place.side == "before" else host.after)[name] = module
    setattr(place.parent, place.leaf, host)


def _take_out(host: SiteLayer, side: Side, name: str) -> None:
    if side == "instead":
        (layer,) = host.replaced  # not a part of the network, so not moved with it
        host.layer, host.replaced = _like(layer, host.layer).train(host.training), ()
    else:
        del (host.before if side == "before" else host.after)[name]


def _like(module: nn.Module, other: nn.Module) -> nn.Module:
    """The module on the device and in the type of another's weights."""
    weight = next((p for p in other.parameters() if p.is_floating_point()), None)
    return module if weight is None else module.to(weight.device, weight.dtype)


def _choose_blocks(sites: list[Site], blocks: Blocks) -> list[Site]:
    if isinstance(blocks, Mapping):
        pairs = {(stage, block) for stage, numbers in blocks.items() for block in numbers}
        _check_blocks(sites, pairs)
        return [s for s in sites if (s.stage, s.block) in pairs]
    if isinstance(blocks, int):
        return _last_blocks(sites, blocks)
    if not isinstance(blocks, str):
        pairs = {(s.stage, b) for s in sites for b in blocks}
        _check_blocks(sites, pairs)
        return [s for s in sites if s.block in blocks]
    if blocks == "all":
        return sites
    if blocks == "first":
        first = {stage: min(s.block for s in sites if s.stage == stage) for stage in _stages(sites)}
        return [s for s in sites if s.block == first[s.stage]]
    if blocks == "even":
        return [s for s in sites if s.block % 2 == 0]
    raise OptionError(
        f"blocks must be one of {', '.join(BLOCK_WORDS)}, a number of blocks, block numbers, or "
        f"block numbers by stage, got {blocks!r}."
    )


def _last_blocks(sites: list[Site], number: int) -> list[Site]:
    if not 1 <= number <= len(sites):
        raise OptionError(
            f"blocks={number}: the number of blocks, counted from the output, must be between 1 "
            f"and {len(sites)} here. For block number {number} write [{number}]."
        )
    return sites[-number:]


def _check_blocks(sites: list[Site], pairs: set[tuple[int, int]]) -> None:
    missing = sorted(pairs - {(s.stage, s.block) for s in sites})
    if missing:
        stage, block = missing[0]
        numbers = [s.block for s in sites if s.stage == stage]
        raise SiteError(
            f"There is no site in block {block} of stage {stage}. Blocks that have one: {numbers}."
        )


def _stages(sites: list[Site]) -> set[int]:
    return {s.stage for s in sites}
