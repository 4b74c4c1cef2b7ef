"""Activation checkpointing: residual blocks compute again what their backward pass needs.

Only the input of each block is kept, for about a third more computing (Chen et al. 2016, arXiv
1604.06174). Gradients, dropout and BatchNorm statistics are those of a plain step.
"""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from kinema.errors import OptionError
from kinema.models.blocks import row_of
from kinema.models.network import VideoNetwork


class _Recomputed(nn.Module):
    """What is put in front of a block's own class."""

    def forward(self, *inputs: torch.Tensor) -> Any:
        run = super().forward
        if not torch.is_grad_enabled():
            return run(*inputs)
        passes = functools.partial(_passes, self)
        return checkpoint(run, *inputs, use_reentrant=False, context_fn=passes)


def checkpoint_blocks(net: VideoNetwork) -> int:
    """Lets every residual block of the backbone compute again instead of keeping activations.

    Names of weights stay, and temporal modules in the blocks take part. Not to be compiled.

    Returns:
        How many blocks there are.

    Raises:
        OptionError: the backbone has no blocks of a known kind.

    Example:
        >>> checkpoint_blocks(VideoNetwork("example", "resnet18", classes=5, frames=8))
        8
    """
    blocks = [module for module in net.backbone.modules() if row_of(module) is not None]
    if not blocks:
        raise OptionError(
            f"Activation checkpointing works on residual blocks, and {net.facts.name} has none of "
            "a kind that kinema knows. Turn it off."
        )
    for block in blocks:
        # A change of class, not a wrapper or a new attribute: copies of the network (the weight
        # average) run their own weights, and no name in the state dict changes.
        if not isinstance(block, _Recomputed):
            block.__class__ = _recomputed(type(block))  # type: ignore[arg-type]  # classes do hash
    return len(blocks)


@functools.cache
def _recomputed(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"Recomputed{kind.__name__}", (_Recomputed, kind), {})


def _passes(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the first and the second pass through a block."""
    return nullcontext(), _scratch_buffers(block)


@contextmanager
def _scratch_buffers(block: nn.Module) -> Iterator[None]:
    """Buffers are copies for a while, so that BatchNorm takes every batch into account once."""
    own = [(m, name, b) for m in block.modules() for name, b in m.named_buffers(recurse=False)]
    for module, name, buffer in own:
        module._buffers[name] = buffer.clone()
    try:
        yield
    finally:
        for module, name, buffer in own:
            module._buffers[name] = buffer
