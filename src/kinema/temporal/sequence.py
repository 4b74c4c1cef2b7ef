"""Several temporal modules in a row, with fewer passes over memory than modules where possible."""

from collections.abc import Iterable

import torch
from torch import nn

from kinema.temporal.conv import TIM
from kinema.temporal.kernels.dispatch import backend_for, uses_reference_backend
from kinema.temporal.se import ChannelGate


def run_in_order(modules: Iterable[nn.Module], x_NCHW: torch.Tensor) -> torch.Tensor:
    """Runs the modules of one site: (N, C, H, W) -> (N, C, H, W).

    A channel gate in front of a depth-wise temporal convolution (TEINet's MEM and TIM) is folded
    into its kernels. Modules that somebody watches through hooks run one by one.
    """
    gate: ChannelGate | None = None
    for module in modules:
        if gate is not None and isinstance(module, TIM) and _folds(gate, module, x_NCHW):
            x_NCHW, gate = module.gated(x_NCHW, gate.factors(x_NCHW)), None
            continue
        if gate is not None:
            x_NCHW, gate = gate(x_NCHW), None
        if isinstance(module, ChannelGate):
            gate = module
        else:
            x_NCHW = module(x_NCHW)
    return x_NCHW if gate is None else gate(x_NCHW)


def _folds(gate: nn.Module, conv: TIM, x_NCHW: torch.Tensor) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    watched = any(getattr(module, name) for module in (gate, conv) for name in hooks)
    taken = backend_for(x_NCHW, conv.weight.shape[2]) is not None
    return taken and not watched and not uses_reference_backend()
