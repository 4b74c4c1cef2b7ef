"""Batch norms folded into the convolutions in front of them, for inference."""

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kinema.errors import OptionError
from kinema.models.network import VideoNetwork
from kinema.temporal import Inflated

Foldable = nn.Conv2d | Inflated


def fold_batch_norms(net: VideoNetwork) -> VideoNetwork:
    """A copy in eval mode whose convolutions do the work of the norms behind them.

    Found by running the network on the meta device: a norm whose input is the very tensor that a
    convolution has returned. Norms behind anything else stay. The scores are the same up to
    rounding; the copy is for inference only.

    Raises:
        OptionError: the network is in training mode, where norms depend on the batch.
    """
    if net.training:
        raise OptionError("Norms can be folded in eval mode only: call net.eval() first.")
    fast = copy.deepcopy(net)
    for conv_name, norm_name in _pairs(fast):
        conv, norm = fast.get_submodule(conv_name), fast.get_submodule(norm_name)
        assert isinstance(conv, Foldable) and isinstance(norm, _BatchNorm)  # noqa: PT018 - narrows both
        _fold(conv, norm)
        # timm's BatchNormAct2d carries the activation too.
        rest = [part for part in norm.children() if not isinstance(part, nn.Identity)]
        fast.set_submodule(norm_name, nn.Sequential(*rest) if rest else nn.Identity())
    return fast


def _pairs(net: VideoNetwork) -> list[tuple[str, str]]:
    """Names of each convolution and the norm that takes its output."""
    probe = copy.deepcopy(net).to("meta")
    returned: dict[int, tuple[str, torch.Tensor]] = {}  # holds the tensors, so that ids stay theirs
    pairs: list[tuple[str, str]] = []

    def remember(name: str) -> object:
        def hook(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            returned[id(output)] = (name, output)

        return hook

    def look_up(name: str) -> object:
        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if id(inputs[0]) in returned:
                pairs.append((returned[id(inputs[0])][0], name))

        return hook

    for name, module in probe.named_modules():
        if isinstance(module, Foldable):
            module.register_forward_hook(remember(name))  # type: ignore[arg-type]  # torch's own type of hooks is wider
        elif isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(look_up(name))  # type: ignore[arg-type]  # as above
    with torch.no_grad():
        probe(torch.empty(1, net.frames, 3, 96, 96, device="meta"))
    return pairs


def _fold(conv: Foldable, norm: _BatchNorm) -> None:
    assert norm.running_mean is not None and norm.running_var is not None  # noqa: PT018
    with torch.no_grad():
        scale_O = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale_O = scale_O * norm.weight
        shift_O = -norm.running_mean * scale_O
        if norm.bias is not None:
            shift_O = shift_O + norm.bias
        if conv.bias is not None:
            shift_O = shift_O + conv.bias * scale_O
        ones = (1,) * (conv.weight.ndim - 1)
        weight = conv.weight * scale_O.reshape(-1, *ones)
        conv.weight = nn.Parameter(weight.contiguous(memory_format=_format(conv)))
        conv.bias = nn.Parameter(shift_O)


def _format(conv: Foldable) -> torch.memory_format:
    flat = isinstance(conv, nn.Conv2d)
    return torch.channels_last if flat else torch.channels_last_3d
