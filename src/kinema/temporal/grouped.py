"""GST and GTE: grouped 3 x 3 convolutions in which some output channels are temporal."""

from typing import Literal, get_args

import torch
from torch import nn

from kinema.errors import OptionError, check_range
from kinema.temporal.base import TemporalModule, check_choice, register
from kinema.temporal.conv import check_kernel, init_temporal_kernel, reach
from kinema.temporal.inflated import conv_like, geometry, plain_conv
from kinema.temporal.kernels.dense import conv_clip, conv_time
from kinema.temporal.kernels.depthwise import depthwise
from kinema.temporal.memory import Memory, conv_step, depthwise_step

LongTermShift = Literal["full", "depthwise"]


def _sliced(conv: nn.Conv2d, *, rows: slice, columns: slice) -> nn.Conv2d:
    """A smaller convolution that starts as a slice of another convolution's weight."""
    return conv_like(conv, conv.weight.detach()[rows, columns].clone())


@register("gst", at="replace_conv2")
class GST(TemporalModule):
    """Grouped spatial-temporal convolution (GST: Luo and Yuille, ICCV 2019, arXiv 1909.13130).

    A 2D convolution computes (alpha-1)/alpha of the output channels and a 3D convolution the rest
    (section 3). With beta=2 each reads one half of the input, the spatial path the first half
    (GST); with beta=1 both read all of it (GST-Large). As in the authors' code, the spatial path
    starts from the leading slice of the 2D weight and the temporal path from Kaiming's normal
    distribution (fan out).

    Weights: 9 C^2 ((alpha-1) + 3) / (alpha beta). Multiply-adds: as many per pixel and frame.
    State when streaming (causal): two sums of the C/alpha temporal outputs; otherwise it looks
    one frame ahead.

    Args:
        conv: The convolution that it replaces.
        frames: T.
        alpha: 1/alpha of the output channels are temporal.
        beta: Each path reads 1/beta of the input channels; 1 or 2.
        causal: The last tap of the 3D kernel reads the frame itself.
    """

    inherited = ("spatial",)

    def __init__(
        self, conv: nn.Module, *, frames: int, alpha: int = 4, beta: int = 2, causal: bool = False
    ) -> None:
        super().__init__(frames=frames, causal=causal, **reach(3, causal=causal))
        conv = plain_conv(conv, "GST")
        if beta not in (1, 2):
            raise OptionError(f"GST beta must be 1 or 2, got {beta}.")
        name = f"GST alpha for {conv.out_channels} output channels"
        check_range(at_least=2, at_most=conv.out_channels, **{name: alpha})
        temporal_out = conv.out_channels // alpha
        self.inputs = conv.in_channels // beta
        self.spatial = _sliced(
            conv, rows=slice(0, conv.out_channels - temporal_out), columns=slice(0, self.inputs)
        )
        self.temporal = nn.Parameter(torch.empty(temporal_out, self.inputs, 3, *conv.kernel_size))
        nn.init.kaiming_normal_(self.temporal, mode="fan_out", nonlinearity="relu")

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Convolves both paths: (N, C, H, W) -> (N, O, H/stride, W/stride)."""
        right_NCHW = x_NCHW[:, -self.inputs :]
        temporal_NOHW = conv_clip(
            right_NCHW, self.temporal, self.frames, causal=self.causal, **geometry(self.spatial)
        )
        return torch.cat([self.spatial(x_NCHW[:, : self.inputs]), temporal_NOHW], 1)

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Convolves both paths of the newest frames."""
        right_NCHW = x_NCHW[:, -self.inputs :]
        temporal_NOHW = conv_step(right_NCHW, self.temporal, memory, **geometry(self.spatial))
        return torch.cat([self.spatial(x_NCHW[:, : self.inputs]), temporal_NOHW], 1)


@register("gte", at="replace_conv2")
class GTE(TemporalModule):
    """Grouped temporal enhancement (GTE: Liu et al., ICIP 2020, section 2, eq. 1-6).

    A 2D convolution of the first half of the input computes 1-t of the output channels. For the
    other tC, the second half passes a learnable temporal shift (LTS, kernel 3 x 1 x 1) and then a
    second 2D convolution. The paper does not give the channel counts of this pair. LTS from C/2
    to tC channels, then tC to tC, is the only reading with both its parameters and its GFLOPs at
    t = 1/4. `lts="depthwise"` is the second-best reading (GFLOPs fit, parameters do not): a
    depth-wise LTS, then C/2 to tC.

    LTS starts as a shift: each output channel reads one input channel, the first half of the
    outputs from the next frame and the second half from the previous frame. At t = 1/4 this moves
    1/8 + 1/8 of the block's channels, as TSM does. The channel map is our choice. Causal: all of
    them read the previous frame.

    Weights (full): 9 C/2 (1-t)C + K C/2 tC + 9 (tC)^2. Multiply-adds: as many per pixel and
    frame. State when streaming (causal): K-1 sums of the tC outputs of LTS; otherwise it looks
    K//2 frames ahead.

    Args:
        conv: The convolution that it replaces.
        frames: T.
        ratio: t, the share of temporal output channels.
        lts: "full" or "depthwise".
        conv2d: False leaves out the 2D convolution after LTS (figure 3a); LTS then has the stride.
            Needs `lts="full"`.
        kernel: K, taps of LTS along time (k_T of the paper's table 1), odd and at least 3.
        causal: The last tap of the LTS kernel reads the frame itself.
    """

    inherited = ("spatial", "conv2d")

    def __init__(
        self,
        conv: nn.Module,
        *,
        frames: int,
        ratio: float = 0.25,
        lts: LongTermShift = "full",
        conv2d: bool = True,
        kernel: int = 3,
        causal: bool = False,
    ) -> None:
        check_kernel("GTE", kernel)
        super().__init__(frames=frames, causal=causal, **reach(kernel, causal=causal))
        conv = plain_conv(conv, "GTE")
        check_choice(get_args(LongTermShift), **{"GTE lts": lts})
        if lts == "depthwise" and not conv2d:
            raise OptionError("GTE without conv2d needs lts='full', which sets the channel count.")
        temporal_out = round(ratio * conv.out_channels)
        if not 0 < temporal_out < conv.out_channels:
            raise OptionError(
                f"GTE ratio must leave temporal and spatial channels of {conv.out_channels}, "
                f"got {ratio}."
            )
        if temporal_out > conv.in_channels:
            raise OptionError(
                f"GTE ratio {ratio} gives {temporal_out} temporal channels from a convolution with "
                f"{conv.in_channels} input channels; use a smaller ratio."
            )
        self.share = conv.in_channels // 2
        right = conv.in_channels - self.share
        self.spatial = _sliced(
            conv, rows=slice(0, conv.out_channels - temporal_out), columns=slice(0, self.share)
        )
        self.depthwise = lts == "depthwise"
        between = right if self.depthwise else temporal_out
        self.lts = nn.Parameter(torch.empty(between, 1 if self.depthwise else right, kernel, 1))
        self._init_lts(right)
        last = slice(conv.out_channels - temporal_out, conv.out_channels)
        self.conv2d = (
            _sliced(conv, rows=last, columns=slice(conv.in_channels - between, conv.in_channels))
            if conv2d
            else None
        )

    def _init_lts(self, inputs: int) -> None:
        """Starts LTS as a shift: one tap per output channel, half ahead and half behind."""
        kernels_C1K1 = torch.empty(self.lts.shape[0], 1, *self.lts.shape[2:])
        if self.causal:
            kernels_C1K1.zero_()[:, 0, -2] = 1
        else:
            init_temporal_kernel(kernels_C1K1, "half_shift")
        with torch.no_grad():
            if self.depthwise:
                self.lts.copy_(kernels_C1K1)
                return
            outputs = self.lts.shape[0]
            o = torch.arange(outputs)
            source = inputs - outputs + o if outputs <= inputs else o % inputs
            self.lts.zero_()
            self.lts[o, source] = kernels_C1K1[:, 0]

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Convolves both paths: (N, C, H, W) -> (N, O, H/stride, W/stride)."""
        shift = depthwise if self.depthwise else conv_time
        right_NCHW = self._temporal_input(x_NCHW)
        return self._both(x_NCHW, shift(right_NCHW, self.lts, self.frames, causal=self.causal))

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Convolves both paths of the newest frames."""
        right_NCHW = self._temporal_input(x_NCHW)
        if self.depthwise:
            return self._both(x_NCHW, depthwise_step(right_NCHW, self.lts, memory))
        return self._both(x_NCHW, conv_step(right_NCHW, self.lts.unsqueeze(3), memory))

    def _temporal_input(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        right_NCHW = x_NCHW[:, self.share :]
        if self.conv2d is not None:
            return right_NCHW
        rows, columns = self.spatial.stride
        return right_NCHW[:, :, ::rows, ::columns]

    def _both(self, x_NCHW: torch.Tensor, temporal_NOHW: torch.Tensor) -> torch.Tensor:
        if self.conv2d is not None:
            temporal_NOHW = self.conv2d(temporal_NOHW)
        return torch.cat([self.spatial(x_NCHW[:, : self.share]), temporal_NOHW], 1)
