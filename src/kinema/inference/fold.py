"""Batch norms folded into the convolutions and linear layers in front of them, for inference."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from kinema.errors import OptionError
from kinema.models.network import VideoNetwork
from kinema.temporal import Inflated

Foldable = nn.Conv2d | nn.Conv1d | nn.Linear | Inflated

# Large enough for every backbone; which module feeds which does not depend on the size.
PROBE_PX = 96


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
    with torch.inference_mode(False):
        fast = copy.deepcopy(net)
    calls = watch(fast, sources=get_args(Foldable), takers=(_BatchNorm,), size=PROBE_PX)
    for norm_name, convs in calls.takes.items():
        if len(convs) != 1 or convs[0] is None or not calls.only_one(convs[0]):
            continue
        conv, norm = fast.get_submodule(convs[0]), fast.get_submodule(norm_name)
        assert isinstance(conv, Foldable)
        assert isinstance(norm, _BatchNorm)
        _fold(conv, norm)
        # timm's BatchNormAct2d carries the activation too.
        rest = [part for part in norm.children() if not isinstance(part, nn.Identity)]
        fast.set_submodule(norm_name, nn.Sequential(*rest) if rest else nn.Identity())
    return fast


@dataclass(frozen=True)
class Calls:
    """What happened in one pass through a network.

    Attributes:
        takes: For every taker, by call, the source whose very output it was given; None for
            anything else.
        input_shapes: Of every source, by call, the shape of its input.
    """

    takes: dict[str, list[str | None]]
    input_shapes: dict[str, list[tuple[int, ...]]]

    def only_one(self, source: str) -> bool:
        """Whether no output of this source went to two takers."""
        taken = sum(names.count(source) for names in self.takes.values())
        return taken == len(self.input_shapes[source])


def watch(
    net: VideoNetwork,
    *,
    sources: tuple[type[nn.Module], ...],
    takers: tuple[type[nn.Module], ...],
    size: int | tuple[int, int],
) -> Calls:
    """Runs the network on one blank clip and sees which module feeds which.

    Args:
        net: The network, in eval mode.
        sources: Kinds of modules whose outputs are followed.
        takers: Kinds of modules whose inputs are looked up.
        size: Height and width of the clip in pixels, or one number for both.
    """
    # Holds the tensors, so that ids stay theirs; the version tells what was changed in place since.
    returned: dict[int, tuple[str, torch.Tensor, int]] = {}
    calls = Calls({}, {})

    def remember(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            returned[id(output)] = (name, output, output._version)
            calls.input_shapes.setdefault(name, []).append(tuple(inputs[0].shape))

        return hook

    def look_up(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            source, _tensor, version = returned.get(id(inputs[0]), (None, None, 0))
            untouched = version == inputs[0]._version
            calls.takes.setdefault(name, []).append(source if untouched else None)

        return hook

    handles: list[RemovableHandle] = []
    for name, module in net.named_modules():
        if isinstance(module, sources):
            handles.append(module.register_forward_hook(remember(name)))
        elif isinstance(module, takers):
            handles.append(module.register_forward_pre_hook(look_up(name)))
    weight = next(net.parameters())
    sides = (size, size) if isinstance(size, int) else size
    with torch.inference_mode(False), torch.no_grad():  # inference tensors have no versions
        net(weight.new_zeros((1, net.frames, 3, *sides)))
    for handle in handles:
        handle.remove()
    return calls


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
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return formats.get(conv.weight.ndim, torch.contiguous_format)
