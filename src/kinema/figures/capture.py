"""Finds modules in the blocks of a network and captures their inputs and outputs.

Forward hooks exist for one pass only, so other passes run at full speed.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from kinema.errors import InputShapeError, OptionError, SiteError, UnknownNameError
from kinema.models.families import families
from kinema.models.network import VideoNetwork


@dataclass(frozen=True)
class ModuleKind:
    """Kind of modules to inspect."""

    what: str  # name in messages, such as "channel attention"
    classes: tuple[type[nn.Module], ...]
    holders: tuple[str, ...]  # names of temporal modules that are of this kind or contain one


@dataclass(frozen=True)
class LocatedModule:
    """Module in a block of a network."""

    block: str  # such as "res2.0"; followed by the class if the block has several: "res2.0 MEM"
    module: nn.Module
    frame_stride: int  # frames of the clip per frame of the module


@dataclass(frozen=True)
class CapturedIO:
    """Copies of a module's inputs and output."""

    given: torch.Tensor
    returned: torch.Tensor


def find_modules(net: VideoNetwork, kind: ModuleKind, *, source: str) -> list[LocatedModule]:
    """Modules of a kind, from input to output; `source` of the network is for messages.

    Raises:
        SiteError: there is none; the message lists the network's modules and networks with one.
    """
    found = [
        (f"res{site.stage}.{site.block}", part, site.frame_stride)
        for site, module in net.inserted()
        for part in module.modules()
        if isinstance(part, kind.classes)
    ]
    if not found:
        present = sorted({name for site in net.sites() for name in site.modules})
        having = [
            family
            for family, rows in families().items()
            if any(row.module in kind.holders for row in rows)
        ]
        raise SiteError(
            f"{source} ({net.name}) has no {kind.what}. Its temporal modules: "
            f"{', '.join(present) or 'none'}. Networks with one: {', '.join(having)}."
        )
    crowd = Counter(block for block, _, _ in found)
    return [
        LocatedModule(f"{block} {type(part).__name__}" if crowd[block] > 1 else block, part, stride)
        for block, part, stride in found
    ]


def find_module(
    net: VideoNetwork, kind: ModuleKind, block: str | None, *, source: str
) -> LocatedModule:
    """Module of a kind in the named block, by default the first one.

    Raises:
        SiteError: there is none in the network.
        UnknownNameError: there is none in the block; the message lists blocks with one.
    """
    found = find_modules(net, kind, source=source)
    for one in found:
        if not block or one.block == block:
            return one
    raise no_such_block([one.block for one in found], block or "", kind, source=source)


def no_such_block(
    blocks: Iterable[str], block: str, kind: ModuleKind, *, source: str
) -> UnknownNameError:
    """Error for a block without a module of the kind; lists blocks with one."""
    return UnknownNameError(
        f"{source} has no {kind.what} in a block {block!r}. Blocks that have one: "
        f"{', '.join(dict.fromkeys(blocks))}."
    )


def run_watched(
    net: VideoNetwork, clip: torch.Tensor, modules: Sequence[nn.Module]
) -> list[CapturedIO]:
    """Runs the network on a clip, on its own device, and returns inputs and outputs of each module.

    The tensors are copies, since later layers may work in place.

    Raises:
        InputShapeError: the input is not one clip.
        OptionError: the network is in training mode, or a module did not run.
    """
    check_eval(net)
    if clip.ndim != 5 or len(clip) != 1:
        raise InputShapeError(
            f"Expected one clip of shape (1, {net.clip_frames}, 3, H, W), got {tuple(clip.shape)}."
        )
    seen: dict[nn.Module, CapturedIO] = {}

    def keep(module: nn.Module, given: tuple[torch.Tensor, ...], returned: torch.Tensor) -> None:
        seen[module] = CapturedIO(given[0].clone(), returned.clone())

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        with torch.no_grad():
            net(clip.to(next(net.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    if len(seen) < len(set(modules)):
        raise OptionError(f"{net.name} did not run all modules to be inspected.")
    return [seen[module] for module in modules]


def check_eval(net: VideoNetwork) -> None:
    """Raises OptionError in training mode, in which norms change and clips depend on each other."""
    if net.training:
        raise OptionError("A network can be inspected in eval mode only: call net.eval() first.")
