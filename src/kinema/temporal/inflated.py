"""I3D and C3D: convolutions of the backbone inflated along time."""

from typing import Any

import torch
from torch import nn

from kinema.errors import OptionError
from kinema.temporal.base import TemporalModule, register
from kinema.temporal.conv import check_kernel, reach
from kinema.temporal.kernels.dense import conv_clip
from kinema.temporal.memory import Memory, conv_step


def plain_conv(conv: nn.Module, name: str, *, groups: bool = False) -> nn.Conv2d:
    """Checks the convolution that module `name` is to replace, and returns it.

    Raises:
        OptionError: it is not a 2D convolution with zero padding, or has groups although `groups`
            is False.
    """
    if type(conv) is not nn.Conv2d:  # subclasses pad differently
        raise OptionError(
            f"{name} replaces a Conv2d, but this backbone has a {type(conv).__name__} there."
        )
    if conv.groups > 1 and not groups:
        raise OptionError(
            f"{name} splits the channels of an ordinary convolution, but this backbone has "
            f"one with {conv.groups} groups there. Use a backbone such as resnet50."
        )
    if conv.dilation != (1, 1) or isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        raise OptionError(f"{name} cannot replace {conv}: it needs zero padding and no dilation.")
    return conv


def geometry(conv: nn.Conv2d) -> dict[str, Any]:
    """Stride, padding and groups of a convolution, as arguments of another one."""
    return {"stride": conv.stride, "padding": conv.padding, "groups": conv.groups}


def conv_like(conv: nn.Conv2d, weight_OChw: torch.Tensor) -> nn.Conv2d:
    """A convolution without bias that has this weight and the geometry of `conv`."""
    outputs, inputs, *kernel = weight_OChw.shape
    part = nn.Conv2d(inputs, outputs, (kernel[0], kernel[1]), bias=False, **geometry(conv))
    part.weight = nn.Parameter(weight_OChw)
    return part


@register("c3d", at="replace_conv2")
class Inflated(TemporalModule):
    """Convolution of the backbone inflated along time (Carreira et al., 2017, arXiv 1705.07750).

    At `replace_conv2` (name `c3d`) each block gets a 3 x 3 x 3 convolution: the C3D-equivalent
    network of GTE's figure 1(b). At `replace_conv1` (name `i3d`) the 1 x 1 convolution becomes
    3 x 1 x 1: I3D 3x1x1 of the TAM paper (arXiv 2005.06803, section 4.3); in blocks of two
    convolutions the first one is 3 x 3 and becomes 3 x 3 x 3. Each of the `kernel` slices starts
    as the 2D weight divided by `kernel`; the GTE and TAM papers do not give their start.

    Weights and multiply-adds: `kernel` times those of the convolution. State when streaming
    (causal): kernel-1 sums of the convolution's outputs; otherwise it looks kernel//2 frames
    ahead.

    Args:
        conv: The convolution that it replaces.
        frames: T.
        kernel: Taps along time, odd and at least 3.
        causal: The last tap reads the frame itself.
    """

    inherited = ("weight", "bias")
    folds_norm = True

    def __init__(
        self, conv: nn.Module, *, frames: int, kernel: int = 3, causal: bool = False
    ) -> None:
        check_kernel("Inflated", kernel)
        super().__init__(frames=frames, causal=causal, **reach(kernel, causal=causal))
        conv = plain_conv(conv, "An inflated convolution", groups=True)
        self._geometry = geometry(conv)
        self.weight = nn.Parameter(
            conv.weight.detach().unsqueeze(2).repeat(1, 1, kernel, 1, 1) / kernel
        )
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone())

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Convolves over time and space: (N, C, H, W) -> (N, O, H/stride, W/stride)."""
        out_NOHW = conv_clip(x_NCHW, self.weight, self.frames, causal=self.causal, **self._geometry)
        return self._with_bias(out_NOHW)

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Convolves the newest frames; see `TemporalModule.step`."""
        return self._with_bias(conv_step(x_NCHW, self.weight, memory, **self._geometry))

    def _with_bias(self, out_NOHW: torch.Tensor) -> torch.Tensor:
        return out_NOHW if self.bias is None else out_NOHW + self.bias[:, None, None]


register("i3d", at="replace_conv1")(Inflated)
