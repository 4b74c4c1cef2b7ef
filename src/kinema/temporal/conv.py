"""Convolutions along time: depth-wise (TIM), dense, and a plain average."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

from kinema.errors import OptionError, check_range
from kinema.temporal.base import TemporalModule, check_choice, register
from kinema.temporal.kernels.dense import conv_time
from kinema.temporal.kernels.depthwise import depthwise
from kinema.temporal.kernels.dispatch import backend_for, uses_reference_backend
from kinema.temporal.kernels.dynamic import dynamic
from kinema.temporal.kernels.layout import fold_view, time_padding, time_view
from kinema.temporal.memory import Memory, conv_step, depthwise_step

TemporalInit = Literal[
    "part_shift", "identity", "half_shift", "quarter_shift", "random", "fixed_shift"
]


def init_temporal_kernel(
    weight_C1K1: torch.Tensor, init: TemporalInit, *, divisor: int = 8, causal: bool = False
) -> None:
    """Fills depth-wise temporal kernels in place.

    Kernels are [previous, same, next]:

    - `part_shift`: [0,0,1] for the first C/divisor channels, [1,0,0] for the next C/divisor and
      [0,1,0] for the rest, so that the layer equals TSM's shift (TEA supplement, eq. 3).
    - `fixed_shift`: the same; the caller also turns the gradient off.
    - `identity`: [0,1,0] for all channels.
    - `half_shift`: [0,0,1] for the first half, [1,0,0] for the second half.
    - `quarter_shift`: [1,0,0] for the first quarter, [0,0,1] for the last quarter, [0,1,0] between
      them (STM).
    - `random`: PyTorch's initialization of a convolution.

    The last tap of a causal kernel reads the frame itself. Channels that would read the next frame
    then read their own frame, except that with `part_shift` the first C/divisor channels read the
    previous frame, as in the online TSM.
    """
    channels, _, taps, _ = weight_C1K1.shape
    middle = time_padding(taps, causal=causal)[0]
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
            if causal:
                behind = ahead
        tap_C = torch.full((channels,), middle)
        if not causal:
            tap_C[ahead] = middle + 1
        tap_C[behind] = middle - 1
        weight_C1K1[torch.arange(channels), 0, tap_C, 0] = 1


def check_kernel(name: str, kernel: int) -> None:
    """Raises OptionError for a temporal kernel of module `name` that has no middle tap."""
    if kernel < 3 or kernel % 2 == 0:
        raise OptionError(f"{name} kernel must be odd and at least 3, got {kernel}.")


def reach(taps: int, *, causal: bool, times: int = 1) -> dict[str, int]:
    """`look_back` and `look_ahead` of `times` convolutions of `taps` taps in a row."""
    before, behind = time_padding(taps, causal=causal)
    return {"look_back": before * times, "look_ahead": behind * times}


@register("tim", at="before_conv1")
class TIM(TemporalModule):
    """Depth-wise temporal convolution (TIM of TEINet: Liu et al., AAAI 2020, arXiv 1911.09435).

    Eq. 4: one kernel of `kernel` taps per channel with zero padding, without bias, norm or
    activation. The paper does not give the initial kernels; `part_shift` reaches its score, so it
    is the default. At position `after_conv1` the same layer is the (2+1)D ResNet-CW (`random`) and
    -Shift (`part_shift`) of TEA's supplement (arXiv 2004.01398). STM, MTA and CTI contain it, too.

    Weights: 3C. Multiply-adds: 3C per pixel and frame. State when streaming (causal): kernel-1
    past frames; otherwise it looks kernel//2 frames ahead.

    Args:
        channels: C.
        frames: T.
        init: See `init_temporal_kernel`.
        divisor: `part_shift` moves 1/divisor of the channels in each direction.
        kernel: Taps along time, odd and at least 3.
        causal: The last tap reads the frame itself.
    """

    def __init__(
        self,
        channels: int,
        *,
        frames: int,
        init: TemporalInit = "part_shift",
        divisor: int = 8,
        kernel: int = 3,
        causal: bool = False,
    ) -> None:
        check_kernel("TIM", kernel)
        super().__init__(frames=frames, causal=causal, **reach(kernel, causal=causal))
        check_choice(get_args(TemporalInit), **{"TIM init": init})
        check_range(at_least=2, **{"TIM divisor": divisor})
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel, 1))
        init_temporal_kernel(self.weight, init, divisor=divisor, causal=causal)
        self.weight.requires_grad_(init != "fixed_shift")

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Convolves along time: (N, C, H, W) -> (N, C, H, W)."""
        return depthwise(x_NCHW, self.weight, self.frames, causal=self.causal)

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Convolves the newest frames; see `TemporalModule.step`."""
        return depthwise_step(x_NCHW, self.weight, memory)

    def fold_gate(self, x_NCHW: torch.Tensor, factors_NC: torch.Tensor) -> torch.Tensor | None:
        """Multiplies the factors into the kernels, one kernel per frame, where a backend runs."""
        taps = self.weight.shape[2]
        if uses_reference_backend() or backend_for(x_NCHW, taps) is None:
            return None
        factors_BCT = torch.unflatten(factors_NC, 0, (-1, self.frames)).transpose(1, 2)
        padded = F.pad(factors_BCT, time_padding(taps, causal=self.causal))
        kernels_BCTK = padded.unfold(2, taps, 1) * self.weight[:, 0, :, 0].unsqueeze(1)
        return dynamic(x_NCHW, kernels_BCTK, self.frames, causal=self.causal)

    def extra_repr(self) -> str:
        """Options in the printed network."""
        channels, _, kernel, _ = self.weight.shape
        return f"{channels}, kernel={kernel}"


@register("tconv", at="after_conv1")
class TemporalConv(TemporalModule):
    """Dense temporal convolution: (2+1)D ResNet-Conv (TEA supplement, arXiv 2004.01398, table 1).

    A full K x 1 x 1 kernel from C to C channels without bias, norm or activation, with PyTorch's
    random initialization. The network is C2D-TConv in the TAM paper (arXiv 2005.06803, section
    4.3).

    Weights: 3C^2. Multiply-adds: 3C^2 per pixel and frame. State when streaming: as TIM.

    Args:
        channels: C.
        frames: T.
        kernel: Taps along time, odd and at least 3.
        causal: The last tap reads the frame itself.
    """

    def __init__(
        self, channels: int, *, frames: int, kernel: int = 3, causal: bool = False
    ) -> None:
        check_kernel("TemporalConv", kernel)
        super().__init__(frames=frames, causal=causal, **reach(kernel, causal=causal))
        self.weight = nn.Parameter(torch.empty(channels, channels, kernel, 1))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Convolves along time: (N, C, H, W) -> (N, C, H, W)."""
        return conv_time(x_NCHW, self.weight, self.frames, causal=self.causal)

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Convolves the newest frames; see `TemporalModule.step`."""
        return conv_step(x_NCHW, self.weight.unsqueeze(3), memory)


@register("tpool", at="after_conv1")
class TemporalPool(TemporalModule):
    """Average of neighboring frames: C2D-Pool (TAM: Liu et al., arXiv 2005.06803, section 4.3).

    The stride is 1, so all frames are kept; the average includes the zeros beyond the ends of the
    clip.

    Weights: none. Multiply-adds: none counted. State when streaming: as TIM.

    Args:
        channels: C.
        frames: T.
        kernel: Number of averaged frames, odd and at least 3.
        causal: The window ends with the frame itself.
    """

    def __init__(
        self, channels: int, *, frames: int, kernel: int = 3, causal: bool = False
    ) -> None:
        check_kernel("TemporalPool", kernel)
        super().__init__(frames=frames, causal=causal, **reach(kernel, causal=causal))
        self.kernel = kernel

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Averages along time: (N, C, H, W) -> (N, C, H, W)."""
        x_BCTS = time_view(x_NCHW, self.frames)
        before = time_padding(self.kernel, causal=self.causal)[0]
        if self.causal:
            x_BCTS, before = F.pad(x_BCTS, (0, 0, before, 0)), 0
        out_BCTS = F.avg_pool2d(x_BCTS, (self.kernel, 1), stride=1, padding=(before, 0))
        return fold_view(out_BCTS, *x_NCHW.shape[2:])

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Averages the newest frames with those before them."""
        part_NCHW = x_NCHW / self.kernel
        out_NCHW = part_NCHW
        for _ in range(self.kernel - 1):
            out_NCHW = part_NCHW + memory.delay(out_NCHW)
        return out_NCHW
