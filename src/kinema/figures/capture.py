"""Finding modules in the blocks of a network, and keeping what passes through them.

Forward hooks are put on for one pass and taken off again, so a network that is not looked into
runs as fast as ever.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from kinema.errors import InputShapeError, OptionError, SiteError, UnknownNameError
from kinema.models.network import VideoNetwork
from kinema.models.zoo import families


@dataclass(frozen=True)
class Kind:
    """Modules that can be looked into.

    Attributes:
        what: How a message calls one, such as "channel attention".
        classes: Their classes.
        holders: The temporal modules, by name, that are one or have one as a part.
    """

    what: str
    classes: tuple[type[nn.Module], ...]
    holders: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """A module in a block of a network.

    Attributes:
        block: Such as "res2.0"; where a block has several, with the class: "res2.0 MEM".
        module: The module.
        frame_stride: Frames of the clip for each frame that it sees.
    """

    block: str
    module: nn.Module
    frame_stride: int


@dataclass(frozen=True)
class Passed:
    """What a module was given and what it returned, as copies."""

    given: torch.Tensor
    returned: torch.Tensor


def find_modules(net: VideoNetwork, kind: Kind, *, source: str) -> list[Found]:
    """The modules of a kind, from input to output.

    Args:
        net: The network.
        kind: What to look for.
        source: Where the network comes from, for the message.

    Raises:
        SiteError: it has none; the message says what it has and which networks have one.
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
        Found(f"{block} {type(part).__name__}" if crowd[block] > 1 else block, part, stride)
        for block, part, stride in found
    ]


def in_block(found: Sequence[Found], block: str, kind: Kind, *, source: str) -> Found:
    """The module in the block of this name.

    Raises:
        UnknownNameError: there is none; the message lists the blocks that have one.
    """
    for one in found:
        if one.block == block:
            return one
    raise no_such_block([one.block for one in found], block, kind, source=source)


def no_such_block(
    blocks: Iterable[str], block: str, kind: Kind, *, source: str
) -> UnknownNameError:
    """The error for a block that has no module of the kind, with those that have one."""
    return UnknownNameError(
        f"{source} has no {kind.what} in a block {block!r}. Blocks that have one: "
        f"{', '.join(dict.fromkeys(blocks))}."
    )


def run_watched(
    net: VideoNetwork, clips_BTCHW: torch.Tensor, modules: Sequence[nn.Module]
) -> list[Passed]:
    """Runs the network without gradients and returns what passed through each module.

    The tensors are copies, because layers behind a module may work in place.

    Raises:
        OptionError: the network is in training mode, or a module did not run.
    """
    check_eval(net)
    seen: dict[nn.Module, Passed] = {}

    def keep(module: nn.Module, given: tuple[torch.Tensor, ...], returned: torch.Tensor) -> None:
        seen[module] = Passed(given[0].clone(), returned.clone())

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        with torch.no_grad():
            net(clips_BTCHW)
    finally:
        for handle in handles:
            handle.remove()
    if len(seen) < len(set(modules)):
        raise OptionError(f"{net.name} did not run all modules that were to be looked into.")
    return [seen[module] for module in modules]


def check_eval(net: VideoNetwork) -> None:
    """Raises OptionError in training mode, where norms change and clips depend on each other."""
    if net.training:
        raise OptionError("A network can be looked into in eval mode only: call net.eval() first.")


def check_one_clip(net: VideoNetwork, clip: torch.Tensor) -> None:
    """Raises InputShapeError unless there is one clip."""
    if clip.ndim != 5 or len(clip) != 1:
        raise InputShapeError(
            f"One clip of shape (1, {net.frames}, 3, H, W) is looked into at a time, "
            f"got {tuple(clip.shape)}."
        )
