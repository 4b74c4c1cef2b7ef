"""Sites in a backbone's blocks, where temporal modules are inserted and removed.

A site belongs to one layer of the backbone. The first module inserted there wraps that layer in a
`SiteLayer`; removing the last one unwraps it again, so a network without modules is the plain
backbone, with its names in the state dict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from kinema.errors import SiteError
from kinema.models import temporal_pool
from kinema.models.backbones import Backbone, Block, find_blocks, why_no_blocks
from kinema.models.blocks import owner_of
from kinema.models.placement import Blocks, Site, match_sites
from kinema.temporal import Position, TemporalEntry, TemporalModule
from kinema.temporal.base import takes_norm
from kinema.temporal.sequence import run_in_order

Side = Literal["before", "after", "instead"]


class SiteLayer(nn.Module):
    """Layer of the backbone with temporal modules before, after or instead of it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.before = nn.ModuleDict()
        self.layer = layer
        self.after = nn.ModuleDict()
        # The layer that this module replaced. In a tuple it is not a submodule: neither counted
        # nor saved.
        self.replaced: tuple[nn.Module, ...] = ()
        self.replaced_by = ""
        # Set on these three only: `train()` would also unfreeze norms inside the layer.
        for own in (self, self.before, self.after):
            own.training = layer.training

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Runs the modules before the layer, the layer, and the modules after it."""
        if self.before:
            x_NCHW = run_in_order(self.before.values(), x_NCHW)
        x_NCHW = self.layer(x_NCHW)
        return run_in_order(self.after.values(), x_NCHW) if self.after else x_NCHW

    @property
    def empty(self) -> bool:
        """True if no temporal module is left."""
        return not (self.before or self.after or self.replaced)


@dataclass(frozen=True)
class _Slot:
    """Site with its objects.

    `leaf` is the name of its layer in `parent`, and `norm` that of the norm behind a convolution
    with its parent.
    """

    site: Site
    parent: nn.Module
    leaf: str
    side: Side
    norm: tuple[nn.Module, str] | None = None

    @property
    def layer(self) -> nn.Module:
        return self.parent.get_submodule(self.leaf)

    @property
    def modules(self) -> dict[str, TemporalModule]:
        """Temporal modules of this site by name, in the order they run."""
        host = self.layer
        if not isinstance(host, SiteLayer):
            return {}
        if self.side == "instead":
            found = {host.replaced_by: host.layer} if host.replaced else {}
        else:
            found = dict((host.before if self.side == "before" else host.after).items())
        return {name: m for name, m in found.items() if isinstance(m, TemporalModule)}


class SiteMap:
    """Sites of a backbone, and the modules inserted in them."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone_name = backbone.name
        self._slots = [
            slot for block in find_blocks(backbone) for slot in _slots_of(block, backbone)
        ]
        self._why_none = "" if self._slots else why_no_blocks(backbone)

    def sites(self) -> tuple[Site, ...]:
        """All sites with the names of their modules."""
        return tuple(replace(slot.site, modules=tuple(slot.modules)) for slot in self._slots)

    def offers(self, at: Position) -> bool:
        """True if a block has a site at this position."""
        return any(slot.site.at == at for slot in self._slots)

    def match(self, at: Position, stages: Sequence[int] | None, blocks: Blocks) -> list[Site]:
        """Returns the sites of a placement, from input to output; see `match_sites`.

        Raises:
            SiteError: the backbone has no sites, none matches, or a named stage or block does not
                exist.
        """
        if self._why_none:
            raise SiteError(f"{self.backbone_name} has no site {at!r}. {self._why_none}")
        sites = (slot.site for slot in self._slots)
        return match_sites(self.backbone_name, sites, at=at, stages=stages, blocks=blocks)

    def inserted(self) -> list[tuple[Site, TemporalModule]]:
        """Inserted modules with their sites, from input to output."""
        return [(slot.site, m) for slot in self._slots for m in slot.modules.values()]

    def insert(
        self,
        entry: TemporalEntry,
        sites: Sequence[Site],
        *,
        frames: int,
        options: Mapping[str, Any],
    ) -> list[TemporalModule]:
        """Builds a module per site and inserts all of them, or none on an error.

        Raises:
            SiteError: the same module, or another replacement, is already inserted.
            OptionError: the module rejects its options or the width of a site.
        """
        slots = [self._slot(site) for site in sites]
        built = [_build(slot, entry, frames=frames, options=options) for slot in slots]
        for slot, module in zip(slots, built, strict=True):
            _put_in(slot, entry.name, module)
            if takes_norm(entry.module):
                assert slot.norm is not None
                norm = _wrapped(*slot.norm)
                gap = _like(nn.Identity(), norm, training=norm.training)
                _replace(*slot.norm, gap, entry.name)
        return built

    def check(
        self,
        entry: TemporalEntry,
        sites: Sequence[Site],
        *,
        frames: int,
        options: Mapping[str, Any],
    ) -> None:
        """Raises the error that `insert` would raise, without changing anything.

        Sites that are equal for the module are tried once.
        """
        tried = set()
        for slot in map(self._slot, sites):
            same = repr(slot.layer) if slot.side == "instead" else slot.site.channels
            if same not in tried:
                tried.add(same)
                _build(slot, entry, frames=frames, options=options)

    def remove(self, name: str | None = None) -> int:
        """Removes all modules of this name (all modules for None); returns their number.

        A replaced convolution is restored with its weights at replacement, or with trained ones
        if its module kept using it (STM, MTA).
        """
        removed = 0
        for slot in self._slots:
            for found in slot.modules:
                if name in (None, found):
                    _take_out(slot, found)
                    removed += 1
        return removed

    def pool_frames(self, pool: nn.Module) -> tuple[str, ...]:
        """Puts a temporal pool in front of its stage; returns the names of the blocks behind it.

        Raises:
            SiteError: the backbone has no such site.
        """
        (first,) = self.match("block", (temporal_pool.STAGE,), "first")
        _put_in(self._slot(first), "temporal_pool", pool)
        self._slots = [
            replace(slot, site=replace(slot.site, frame_stride=temporal_pool.STRIDE))
            if slot.site.stage >= temporal_pool.STAGE
            else slot
            for slot in self._slots
        ]
        behind = (slot.site for slot in self._slots if slot.site.stage >= temporal_pool.STAGE)
        return tuple(site.path for site in behind if site.at == "block")

    def _slot(self, site: Site) -> _Slot:
        wanted = (site.stage, site.block, site.at)
        for slot in self._slots:
            if (slot.site.stage, slot.site.block, slot.site.at) == wanted:
                return slot
        raise SiteError(f"{self.backbone_name} has no site {site}.")


def _slots_of(block: Block, backbone: Backbone) -> list[_Slot]:
    """Sites of a block, in the order of the data flow."""
    row, module, stride = block.row, block.module, backbone.stride_at(block.path)
    convs, end = row.convs_of(module), row.end_of(module)
    output = row.output or end or convs[0]
    # Rows describe a family whose blocks differ in width, so widths are read from the layers.
    width_in = _width(module.get_submodule(convs[0] if convs else output), "in")
    width_end = _width(module.get_submodule(output), "out")
    slots = []

    def add(at: Position, name: str, side: Side, channels: int) -> None:
        """Adds a site at a layer inside the block, or without a name at the block as a whole."""
        path = f"{block.path}.{name}" if name else block.path
        parent, leaf = owner_of(backbone.net, path)
        site = Site(block.stage, block.index, at, channels, path, stride)
        norm = row.norm_behind(module, name)
        norm_at = None if norm is None else owner_of(module, norm)
        slots.append(_Slot(site, parent, leaf, side, norm_at))

    widths = [_width(module.get_submodule(name), "in") for name in convs]
    # A module in the branch adds to what the identity path carries. Without such a path it would be
    # the only way through the block, where a random module destroys pretrained features.
    carries_input = row.carries_input(module)
    if row.takes_tensor:
        add("block", "", "before", width_in)
    if convs and carries_input:
        add("before_conv1", convs[0], "before", widths[0])
    # A site "after" a convolution is the one before the next, past norm and activation.
    inside: tuple[tuple[Position | None, Position], ...] = (
        (None, "replace_conv1"),
        ("after_conv1", "replace_conv2"),
        ("after_conv2", "replace_conv3"),
    )
    for (after, instead), name, width in zip(inside, convs, widths, strict=False):
        if after is not None:
            add(after, name, "before", width)
        add(instead, name, "instead", width)
    if end is not None and carries_input:
        add("before_addition", end, "after", width_end)
    if row.takes_tensor and row.widening is not None:
        add("after_block", "", "after", width_end * row.widening)
    return slots


def _width(layer: nn.Module, side: Literal["in", "out"]) -> int:
    """Input or output channels of a convolution, a norm, or a group of them."""
    parts: list[Any] = list(layer.modules())  # blocks of other libraries: untyped attributes
    for part in parts if side == "in" else [layer, *reversed(parts)]:
        if side == "out" and hasattr(part, "out_chs"):  # a group that says so itself
            return int(part.out_chs)
        if hasattr(part, "in_channels") and hasattr(part, "out_channels"):
            return int(getattr(part, f"{side}_channels"))
        if hasattr(part, "num_features"):
            return int(part.num_features)
    raise AssertionError(f"no width in {type(layer).__name__}")


def _build(
    slot: _Slot, entry: TemporalEntry, *, frames: int, options: Mapping[str, Any]
) -> TemporalModule:
    site, layer = slot.site, slot.layer
    if entry.name in slot.modules:
        raise SiteError(f"{entry.name!r} is already inserted at {site}.")
    frames //= site.frame_stride
    if slot.side != "instead":
        return entry.build(site.channels, frames=frames, options=options)
    if isinstance(layer, SiteLayer):
        if layer.replaced:
            raise SiteError(f"{site} is already taken by {layer.replaced_by!r}.")
        layer = layer.layer
    if takes_norm(entry.module):
        if slot.norm is None:
            raise SiteError(
                f"{entry.name!r} replaces a convolution and the norm behind it, but the block "
                f"table names no norm behind {site.path}. Use a backbone such as resnet50."
            )
        options = {**options, "norm": _wrapped(*slot.norm)}
    return entry.module.from_conv(layer, frames=frames, **options)


def _put_in(slot: _Slot, name: str, module: nn.Module) -> None:
    layer = slot.layer
    norm = () if slot.norm is None else (_wrapped(*slot.norm),)
    _like(module, layer, *norm, training=layer.training)
    if slot.side == "instead":
        _replace(slot.parent, slot.leaf, module, name)
    else:
        host = _host(slot.parent, slot.leaf)
        (host.before if slot.side == "before" else host.after)[name] = module


def _host(parent: nn.Module, leaf: str) -> SiteLayer:
    """The layer of this name, wrapped for temporal modules."""
    layer = parent.get_submodule(leaf)
    host = layer if isinstance(layer, SiteLayer) else SiteLayer(layer)
    setattr(parent, leaf, host)
    return host


def _wrapped(parent: nn.Module, leaf: str) -> nn.Module:
    """The layer of this name without its temporal modules."""
    layer = parent.get_submodule(leaf)
    return layer.layer if isinstance(layer, SiteLayer) else layer


def _replace(parent: nn.Module, leaf: str, module: nn.Module, name: str) -> None:
    host = _host(parent, leaf)
    host.replaced, host.replaced_by = (host.layer,), name
    host.layer = module


def _take_out(slot: _Slot, name: str) -> None:
    if slot.side == "instead":
        now = _wrapped(slot.parent, slot.leaf)
        _restore(slot.parent, slot.leaf, now)
        if slot.norm is not None:
            _restore(*slot.norm, now)
        return
    host = _host(slot.parent, slot.leaf)
    del (host.before if slot.side == "before" else host.after)[name]
    _unwrap(slot.parent, slot.leaf)


def _restore(parent: nn.Module, leaf: str, like: nn.Module) -> None:
    """Puts a replaced layer back, on the device and in the type of its replacement's weights."""
    host = parent.get_submodule(leaf)
    if isinstance(host, SiteLayer) and host.replaced:
        (layer,) = host.replaced  # not a submodule, so it was not moved with the network
        host.layer, host.replaced = _like(layer, like, training=host.training), ()
        _unwrap(parent, leaf)


def _unwrap(parent: nn.Module, leaf: str) -> None:
    host = parent.get_submodule(leaf)
    if isinstance(host, SiteLayer) and host.empty:
        setattr(parent, leaf, host.layer)


def _like(module: nn.Module, other: nn.Module, *more: nn.Module, training: bool) -> nn.Module:
    """Gives the module a mode, and the device and type of another's weights.

    Parts of the others that the module uses too, such as frozen norms, keep their mode.
    """
    shared = {id(part) for one in (other, *more) for part in one.modules()}
    for part in module.modules():
        if id(part) not in shared:
            part.training = training
    weight = next((p for p in other.parameters() if p.is_floating_point()), None)
    return module if weight is None else module.to(weight.device, weight.dtype)
