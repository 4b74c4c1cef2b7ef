"""Runs several temporal modules in a row, merged into fewer passes over memory where possible."""

from collections.abc import Iterable

import torch
from torch import nn

from kinema.temporal.base import TemporalModule
from kinema.temporal.kernels.eager import has_hooks
from kinema.temporal.kernels.gate import gate


def run_in_order(modules: Iterable[nn.Module], x_NCHW: torch.Tensor) -> torch.Tensor:
    """Runs the modules of one site: (N, C, H, W) -> (N, C, H, W).

    A channel gate is folded into the module behind it if that module can do so, as TIM does with
    TEINet's MEM. Modules with hooks run one by one.
    """
    pending: TemporalModule | None = None  # a gate that may be folded into the next module
    for module in modules:
        if pending is not None:
            if isinstance(module, TemporalModule) and _can_fold(pending, module):
                x_NCHW, pending = _run_folded(pending, module, x_NCHW), None
                continue
            x_NCHW, pending = pending(x_NCHW), None
        if isinstance(module, TemporalModule) and _overrides(module, "gate_factors"):
            pending = module
        else:
            x_NCHW = module(x_NCHW)
    return x_NCHW if pending is None else pending(x_NCHW)


def _can_fold(first: TemporalModule, second: TemporalModule) -> bool:
    return _overrides(second, "fold_gate") and not has_hooks(first) and not has_hooks(second)


def _overrides(module: TemporalModule, method: str) -> bool:
    return getattr(type(module), method) is not getattr(TemporalModule, method)


def _run_folded(
    first: TemporalModule, second: TemporalModule, x_NCHW: torch.Tensor
) -> torch.Tensor:
    factors_NC = first.gate_factors(x_NCHW)
    assert factors_NC is not None
    out_NCHW = second.fold_gate(x_NCHW, factors_NC)
    if out_NCHW is None:
        out_NCHW = second(gate(x_NCHW, factors_NC))
    return out_NCHW
