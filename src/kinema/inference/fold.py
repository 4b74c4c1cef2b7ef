"""Batch norms folded into the convolutions and linear layers in front of them, for inference."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from kinema.errors import OptionError
from kinema.models.network import NORMS, VideoNetwork
from kinema.temporal import TemporalModule

# Large enough for every backbone; which module feeds which does not depend on the size.
PROBE_PX = 96


def fold_batch_norms(net: VideoNetwork) -> VideoNetwork:
    """Copies a network in eval mode and folds its batch norms into the convolutions before them.

    One run on a blank clip shows which norms can be folded: those whose input is the unchanged
    output of a convolution. Other norms stay. The scores are the same up to rounding; the copy is
    for inference only.

    Raises:
        OptionError: the network is in training mode, where norms depend on the batch.
    """
    if net.training:
        raise OptionError("Norms can be folded in eval mode only: call net.eval() first.")
    with torch.inference_mode(False):
        folded = copy.deepcopy(net)
    flow = trace_flow(
        folded,
        is_source=_folds_norm,
        is_taker=lambda module: isinstance(module, NORMS),
        size=(PROBE_PX, PROBE_PX),
    )
    for norm_name, sources in flow.taken.items():
        # A norm that is shared by several convolutions, or a convolution that runs twice or whose
        # output something else takes too, must stay: folding would change the other path.
        if len(sources) != 1 or sources[0] is None or not flow.has_one_taker(sources[0]):
            continue
        if len(flow.input_shapes[sources[0]]) > 1:
            continue
        norm = folded.get_submodule(norm_name)
        assert isinstance(norm, NORMS)
        _fold(folded.get_submodule(sources[0]), norm)
        # timm's BatchNormAct2d has the activation inside, which stays.
        rest = [part for part in norm.children() if not isinstance(part, nn.Identity)]
        folded.set_submodule(norm_name, nn.Sequential(*rest) if rest else nn.Identity())
    return folded


def _folds_norm(module: nn.Module) -> bool:
    if isinstance(module, TemporalModule):
        return module.folds_norm
    return isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)


@dataclass(frozen=True)
class DataFlow:
    """Flow of data from source to taker modules in one run of a network.

    Attributes:
        taken: For every taker, one entry per call: the source whose unchanged output was its
            input, or None for any other input.
        input_shapes: For every source, one entry per call: the shape of its input.
    """

    taken: dict[str, list[str | None]] = field(default_factory=dict)
    input_shapes: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)

    def has_one_taker(self, source: str) -> bool:
        """True if each output of this source went to exactly one taker."""
        taken = sum(names.count(source) for names in self.taken.values())
        return taken == len(self.input_shapes[source])


def trace_flow(
    net: VideoNetwork,
    *,
    is_source: Callable[[nn.Module], bool],
    is_taker: Callable[[nn.Module], bool],
    size: tuple[int, int],
) -> DataFlow:
    """Runs a network in eval mode on a blank clip of this height and width in pixels.

    Records which source module feeds which taker.
    """
    # The tensors are kept, so that no later one gets the same id. PyTorch raises the version of a
    # tensor when an operator writes into it: such a tensor is no longer the source's output.
    outputs: dict[int, tuple[str, torch.Tensor, int]] = {}
    flow = DataFlow()

    def remember(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            outputs[id(output)] = (name, output, output._version)
            flow.input_shapes.setdefault(name, []).append(tuple(inputs[0].shape))

        return hook

    def look_up(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            source, _tensor, version = outputs.get(id(inputs[0]), (None, None, 0))
            unchanged = version == inputs[0]._version
            flow.taken.setdefault(name, []).append(source if unchanged else None)

        return hook

    handles: list[RemovableHandle] = []
    for name, module in net.named_modules():
        if is_source(module):
            handles.append(module.register_forward_hook(remember(name)))
        elif is_taker(module):
            handles.append(module.register_forward_pre_hook(look_up(name)))
    weight = next(net.parameters())
    with torch.inference_mode(False), torch.no_grad():  # inference tensors have no versions
        net(weight.new_zeros((1, net.clip_frames, 3, *size)))
    for handle in handles:
        handle.remove()
    return flow


def _fold(conv: Any, norm: Any) -> None:  # weight and bias are what all kinds have in common
    """Scales and shifts a convolution's output channels (O) as the norm does."""
    with torch.no_grad():
        scale_O = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale_O = scale_O * norm.weight
        shift_O = -norm.running_mean * scale_O
        if norm.bias is not None:
            shift_O = shift_O + norm.bias
        if conv.bias is not None:
            shift_O = shift_O + conv.bias * scale_O
        weight = conv.weight * scale_O.reshape(-1, *(1,) * (conv.weight.ndim - 1))
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        layout = formats.get(weight.ndim, torch.contiguous_format)
        conv.weight = nn.Parameter(weight.contiguous(memory_format=layout))
        conv.bias = nn.Parameter(shift_O)
