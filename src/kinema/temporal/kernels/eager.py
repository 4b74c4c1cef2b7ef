"""Checks whether a C or Triton kernel may read a tensor's memory, and whether modules have hooks.

PyTorch has no public query for the active dispatch modes, function transforms, forward-mode levels
and hooks; tests/unit/test_private_torch.py lists the private names and the versions that have them.
"""

import torch
from torch import nn
from torch.autograd import forward_ad


def runs_eagerly(x: torch.Tensor) -> bool:
    """True if the values lie at the tensor's address and nothing has to see single operators.

    False while a graph is captured, under function transforms and forward-mode derivatives, for
    tensor subclasses, and under modes that intercept every operator.
    """
    return (
        not torch.compiler.is_compiling()
        and type(x) in (torch.Tensor, nn.Parameter)
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]  # untyped
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and forward_ad._current_level < 0
    )


def has_hooks(module: nn.Module) -> bool:
    """True if anybody observes the calls of this module, so that none may be skipped."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
