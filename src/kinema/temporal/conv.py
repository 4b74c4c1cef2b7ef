"""Convolutions along time: TIM and what shares its depth-wise kernel."""

from typing import Literal, get_args

import torch
from torch import nn

from kinema.errors import OptionError, did_you_mean
from kinema.temporal.base import TemporalModule, register
from kinema.temporal.kernels.depthwise import depthwise

TemporalInit = Literal[
    "part_shift", "identity", "half_shift", "quarter_shift", "random", "fixed_shift"
]
TEMPORAL_INITS: tuple[TemporalInit, ...] = get_args(TemporalInit)


def init_temporal_kernel(
    weight_C1K1: torch.Tensor, init: TemporalInit, *, divisor: int = 8
) -> None:
    """Fills depth-wise temporal kernels in place.

    With kernels [previous, same, next]:
    `part_shift` [0,0,1] for the first C/divisor channels, [1,0,0] for as many after them, [0,1,0]
    for the rest, so that the layer equals TSM's shift (TEA supplement, eq. 3); `fixed_shift` the
    same (the caller also stops the gradient); `identity` all [0,1,0]; `half_shift` first half
    [0,0,1], second half [1,0,0]; `quarter_shift` first quarter [1,0,0], last quarter [0,0,1],
    middle [0,1,0] (STM); `random` PyTorch's own initialisation of a convolution.
    """
    channels, _, taps, _ = weight_C1K1.shape
    middle = taps // 2
    with torch.no_grad():
        if init == "random":
            nn.init.kaiming_uniform_(weight_C1K1, a=5**0.5)
            return
        weight_C1K1.zero_()
        if init == "identity":
            weight_C1K1[:, 0, middle] = 1
            return
        if init == "half_shift":
            ahead, behind = slice(0, channels // 2), slice(channels // 2, channels)
        elif init == "quarter_shift":
            ahead, behind = slice(channels - channels // 4, channels), slice(0, channels // 4)
        else:
            share = channels // divisor
            ahead, behind = slice(0, share), slice(share, 2 * share)
        tap_C = torch.full((channels,), middle)
        tap_C[ahead] = middle + 1
        tap_C[behind] = middle - 1
        weight_C1K1[torch.arange(channels), 0, tap_C, 0] = 1


@register("tim", at="before_conv1")
class TIM(TemporalModule):
    """Depth-wise temporal convolution (TIM of TEINet: Liu et al., AAAI 2020, arXiv 1911.09435).

    Eq. 4: one kernel of `kernel` taps per channel, zero padded, no bias, norm or activation. The
    paper is silent on the initial kernels: `part_shift` reaches the score that it reports, so it
    is the default. The same layer at position `after_conv1` is the (2+1)D ResNet-CW (`random`)
    and -Shift (`part_shift`) of TEA's supplement.

    Weights: 3C. Multiply-adds: 3C per pixel and frame. State when streaming: kernel//2 past
    frames; it looks as many frames ahead.

    Args:
        channels: C.
        frames: T.
        init: See `init_temporal_kernel`.
        divisor: The share of the channels that `part_shift` moves in each direction.
        kernel: Taps along time, odd and at least 3.
    """

    def __init__(
        self,
        channels: int,
        *,
        frames: int,
        init: TemporalInit = "part_shift",
        divisor: int = 8,
        kernel: int = 3,
    ) -> None:
        super().__init__(frames=frames, look_back=kernel // 2, look_ahead=kernel // 2)
        if init not in TEMPORAL_INITS:
            raise OptionError(f"Unknown TIM init {init!r}. " + did_you_mean(init, TEMPORAL_INITS))
        if kernel < 3 or kernel % 2 == 0:
            raise OptionError(f"TIM kernel must be odd and at least 3, got {kernel}.")
        if divisor < 2:
            raise OptionError(f"TIM divisor must be at least 2, got {divisor}.")
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel, 1))
        init_temporal_kernel(self.weight, init, divisor=divisor)
        self.weight.requires_grad_(init != "fixed_shift")

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Convolves along time: (N, C, H, W) -> (N, C, H, W)."""
        return depthwise(x_NCHW, self.weight, self.frames)

    def extra_repr(self) -> str:
        """Shown in the printed network."""
        channels, _, kernel, _ = self.weight.shape
        return f"{channels}, kernel={kernel}"
