"""Convolutions fused with the activation and the addition behind them, for inference on the CPU.

A residual block then runs as one oneDNN operator per convolution, each with a single pass over its
output, and with weights in the memory layout of oneDNN's kernels.

Letters: N frames, C channels, H, W.
"""

from typing import Any

import torch
from torch import nn

from kinema.errors import OptionError
from kinema.inference.fold import trace_flow
from kinema.models.blocks import ResidualLayers, class_name, row_of
from kinema.models.network import VideoNetwork
from kinema.models.sites import SiteLayer
from kinema.temporal.sequence import run_in_order

# Name and parameters of an activation for oneDNN's operators.
Activation = tuple[str, list[float | None]]
NO_ACTIVATION: Activation = ("none", [])
ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
    nn.Hardswish: ("hardswish", []),
}


def can_fuse(example: torch.Tensor) -> bool:
    """True if this build of PyTorch has the fused operators for a tensor like the example."""
    onednn = torch.backends.mkldnn
    available = onednn.is_available()  # type: ignore[no-untyped-call]  # as torch has it
    if example.device.type != "cpu" or not (onednn.enabled and available):
        return False
    if example.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return example.dtype == torch.float32


def fuse_convolutions(folded: VideoNetwork, example: torch.Tensor) -> VideoNetwork:
    """Fuses the convolutions of a network from `fold_batch_norms`, in place; returns it.

    Args:
        folded: The network in eval mode, with weights of the example's type.
        example: Clips (B, T, 3, H, W). Other sizes work too; this one is the fastest.

    Raises:
        OptionError: there are no fused operators for the example's device or type.
    """
    if not can_fuse(example):
        raise OptionError(
            f"Convolutions cannot be fused for {example.dtype} on {example.device.type}: this "
            "needs PyTorch with oneDNN and a processor that computes with this type."
        )
    height, width = example.shape[-2:]
    flow = trace_flow(
        folded,
        is_source=lambda module: isinstance(module, nn.Conv2d),
        is_taker=lambda module: isinstance(module, tuple(ACTIVATIONS)),
        size=(height, width),
    )
    # Subclasses pad in a way of their own (TensorFlow's "same"), so they stay.
    convs = {name for name in flow.input_shapes if type(folded.get_submodule(name)) is nn.Conv2d}

    # 1. An activation joins the convolution in front of it. A block may use one activation module
    # several times: then each of its inputs has to come from a convolution that feeds nothing else.
    activations = dict.fromkeys(convs, NO_ACTIVATION)
    for act, taken in flow.taken.items():
        activation = ACTIVATIONS.get(type(folded.get_submodule(act)))
        if activation is not None and all(c in convs and flow.has_one_taker(c) for c in taken):
            activations |= dict.fromkeys((conv for conv in taken if conv is not None), activation)
            folded.set_submodule(act, nn.Identity())

    # 2. Every convolution gets its weights in the layout that oneDNN wants for this input size.
    for name, activation in activations.items():
        conv = folded.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        folded.set_submodule(name, FusedConv(conv, activation, flow.input_shapes[name][0]))

    # 3. Where nothing is left between a block's last convolution and its addition, the convolution
    # adds the shortcut and applies the ReLU itself.
    for name, block in list(folded.named_modules()):
        layers = _fusable_layers(block)
        if layers is not None:
            folded.set_submodule(name, FusedResidual(block, layers))
    return folded


class FusedConv(nn.Module):
    """Convolution with bias and activation in one operator: (N, C, H, W) -> (N, O, H', W')."""

    def __init__(
        self, conv: nn.Conv2d, activation: Activation, input_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self._geometry: tuple[Any, ...] = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self.padding, self.stride, self.dilation, self.groups = self._geometry
        self.kernel_size = conv.kernel_size
        # Opaque to PyTorch: no parameter, not in the state dict.
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            conv.weight.detach(), *self._geometry, input_shape
        )
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._activation = activation

    @property
    def has_activation(self) -> bool:
        """True if an activation is part of the operator."""
        return self._activation is not NO_ACTIVATION

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """The activated convolution."""
        name, numbers = self._activation
        result: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            x_NCHW, self._weight, self._bias, *self._geometry, name, numbers, ""
        )
        return result

    def add_to(self, sum_NOHW: torch.Tensor, x_NCHW: torch.Tensor) -> torch.Tensor:
        """relu(sum + convolution), written into `sum_NOHW`."""
        result: torch.Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            sum_NOHW, x_NCHW, self._weight, self._bias, *self._geometry, "add", 1.0, "relu", [], ""
        )
        return result


class FusedResidual(nn.Module):
    """relu(branch(x) + shortcut(x)) with addition and activation in the last convolution.

    The sum is written into the memory of the shortcut, which is not needed afterwards.
    """

    def __init__(self, block: nn.Module, layers: ResidualLayers) -> None:
        super().__init__()
        *branch, self.end = (_part(block, name) for name in layers.branch)
        self.branch = nn.Sequential(*(layer for layer in branch if layer is not None))
        self.downsample = _part(block, "downsample")

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        y_NCHW = self.branch(x_NCHW)
        end = self.end
        if isinstance(end, SiteLayer):
            y_NCHW = run_in_order(end.before.values(), y_NCHW)
            end = end.layer
        assert isinstance(end, FusedConv)
        shortcut_NCHW = x_NCHW if self.downsample is None else self.downsample(x_NCHW)
        return end.add_to(shortcut_NCHW, y_NCHW)


def _fusable_layers(block: nn.Module) -> ResidualLayers | None:
    """The layers of a block whose last convolution can do the addition; None for other blocks."""
    row = row_of(block)
    # A subclass of a known block may run its layers in another order.
    if row is None or row.fused is None or row.block != class_name(type(block)):
        return None
    layers = row.fused
    end = getattr(block, layers.branch[-1])
    if isinstance(end, SiteLayer) and not end.after:
        end = end.layer
    plain_end = isinstance(end, FusedConv) and not end.has_activation
    nothing_after = all(_part(block, name) is None for name in layers.after)
    ends_in_relu = isinstance(getattr(block, layers.act), nn.ReLU)
    return layers if ends_in_relu and plain_end and nothing_after else None


def _part(block: nn.Module, name: str) -> nn.Module | None:
    """A layer of the block; None when there is none or it does nothing."""
    part = getattr(block, name)
    return part if isinstance(part, nn.Module) and not isinstance(part, nn.Identity) else None
