"""Activation checkpointing: residual blocks are recomputed in the backward pass.

Only the input of each block is stored, for about a third more computation (Chen et al. 2016,
arXiv 1604.06174). Gradients, dropout and BatchNorm statistics equal those of a plain step.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from kinema.errors import OptionError
from kinema.models.blocks import row_of
from kinema.models.network import VideoNetwork


class _Recomputed(nn.Module):
    """Mixin that recomputes a block in the backward pass."""

    def forward(self, *inputs: torch.Tensor) -> Any:
        run = super().forward
        if not torch.is_grad_enabled():
            return run(*inputs)
        return checkpoint(
            run,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _scratch_buffers(self)),  # of the two passes
        )


def checkpoint_blocks(net: VideoNetwork) -> int:
    """Makes every residual block of the backbone recompute its activations.

    Weight names do not change, and temporal modules in the blocks are included. Does not work with
    torch.compile.

    Returns:
        Number of blocks.

    Raises:
        OptionError: the backbone has no blocks of a known kind.

    Example:
        >>> checkpoint_blocks(VideoNetwork("example", "resnet18", classes=5, frames=8))
        8
    """
    blocks = [module for module in net.backbone.modules() if row_of(module) is not None]
    if not blocks:
        raise OptionError(
            f"Activation checkpointing works on residual blocks, and {net.facts.name} has none "
            "with a row in the block table. Turn it off."
        )
    for block in blocks:
        # Changes the class instead of wrapping the block: copies of the network (the weight
        # average) use their own weights, and no name in the state dict changes.
        if not isinstance(block, _Recomputed):
            block.__class__ = _recomputed(type(block))  # type: ignore[arg-type]  # classes do hash
    return len(blocks)


@functools.cache
def _recomputed(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"Recomputed{kind.__name__}", (_Recomputed, kind), {})


@contextmanager
def _scratch_buffers(block: nn.Module) -> Iterator[None]:
    """Replaces buffers by copies during a pass, so that BatchNorm counts every batch once."""
    own = [(m, name, b) for m in block.modules() for name, b in m.named_buffers(recurse=False)]
    for module, name, buffer in own:
        module._buffers[name] = buffer.clone()
    try:
        yield
    finally:
        for module, name, buffer in own:
            module._buffers[name] = buffer
