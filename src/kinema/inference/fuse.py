"""Convolutions fused with the activation and the addition behind them, for inference on the CPU.

A residual block is then as many calls of oneDNN as it has convolutions, each with one pass over
its output, and the weights lie in memory as the kernels want them.

Letters: N frames, C channels, H, W.
"""

from typing import Any

import torch
from torch import nn

from kinema.errors import OptionError
from kinema.inference.fold import watch
from kinema.models.blocks import ResidualLayers, class_name, row_of
from kinema.models.network import VideoNetwork
from kinema.models.sites import SiteLayer
from kinema.temporal.sequence import run_in_order

Post = tuple[str, list[float | None]]
_NOTHING: Post = ("none", [])
_POSTS: dict[type[nn.Module], Post] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
    nn.Hardswish: ("hardswish", []),
}


def can_fuse(example: torch.Tensor) -> bool:
    """Whether this build of PyTorch has the fused calls for a tensor like the example."""
    if example.device.type != "cpu" or not torch.backends.mkldnn.enabled:
        return False
    if not torch._C._has_mkldnn:
        return False
    if example.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return example.dtype == torch.float32


def fuse_convolutions(folded: VideoNetwork, example: torch.Tensor) -> VideoNetwork:
    """Fuses the convolutions of a network from `fold_batch_norms`, in place; returns it.

    Args:
        folded: The network, its weights of the example's type, in eval mode.
        example: Clips (B, T, 3, H, W). Other sizes work too; this one is the fastest.

    Raises:
        OptionError: there are no fused calls for the example's device or type.
    """
    if not can_fuse(example):
        raise OptionError(
            f"Convolutions cannot be fused for {example.dtype} on {example.device.type}: this "
            "needs PyTorch with oneDNN and a processor that computes with this type."
        )
    height, width = example.shape[-2:]
    calls = watch(folded, sources=(nn.Conv2d,), takers=tuple(_POSTS), size=(height, width))
    convs = {name for name in calls.input_shapes if type(folded.get_submodule(name)) is nn.Conv2d}
    posts = dict.fromkeys(convs, _NOTHING)
    for act, taken in calls.takes.items():
        post = _POSTS.get(type(folded.get_submodule(act)))
        if post is not None and all(conv in convs and calls.only_one(conv) for conv in taken):
            posts |= dict.fromkeys((conv for conv in taken if conv is not None), post)
            folded.set_submodule(act, nn.Identity())
    for name, post in posts.items():
        conv = folded.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        folded.set_submodule(name, FusedConv(conv, post, calls.input_shapes[name][0]))
    for name, block in list(folded.named_modules()):
        layers = _fusable_layers(block)
        if layers is not None:
            folded.set_submodule(name, FusedResidual(block, layers))
    return folded


class FusedConv(nn.Module):
    """A convolution with its bias and activation: (N, C, H, W) -> (N, O, H', W')."""

    def __init__(self, conv: nn.Conv2d, post: Post, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self._how: tuple[Any, ...] = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self.padding, self.stride, self.dilation, self.groups = self._how
        self.kernel_size = conv.kernel_size
        # Opaque to PyTorch: no parameter, not in the state dict.
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            conv.weight.detach(), *self._how, input_shape
        )
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._post = post

    @property
    def has_activation(self) -> bool:
        """Whether an activation is part of the call."""
        return self._post is not _NOTHING

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """The activated convolution."""
        name, numbers = self._post
        result: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            x_NCHW, self._weight, self._bias, *self._how, name, numbers, ""
        )
        return result

    def add_to(self, sum_NOHW: torch.Tensor, x_NCHW: torch.Tensor) -> torch.Tensor:
        """relu(sum + convolution), written into `sum_NOHW`."""
        result: torch.Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            sum_NOHW, x_NCHW, self._weight, self._bias, *self._how, "add", 1.0, "relu", [], ""
        )
        return result


class FusedResidual(nn.Module):
    """relu(branch(x) + shortcut(x)), the addition and the activation inside the last convolution.

    The sum is written into the memory of the shortcut, which nobody needs afterwards.
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
