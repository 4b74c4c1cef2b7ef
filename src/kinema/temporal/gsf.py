"""GSF: gate-shift-fuse module.

Letters: N frames, C channels in, O channels out of the convolution, H, W, F gated channels, Q = F/2
channels of a half.
"""

import torch
from torch import nn

from kinema.errors import OptionError, check_range
from kinema.temporal.base import register
from kinema.temporal.gsm import GateShift, interleaved
from kinema.temporal.inflated import plain_conv
from kinema.temporal.kernels.dense import conv_clip
from kinema.temporal.kernels.gate import gate, spatial_mean
from kinema.temporal.memory import Memory, conv_step

HALVES = 2


@register("gsf", at="replace_conv3", at_basic="replace_conv2")
class GSF(GateShift):
    """Gate-shift-fuse module (GSF: Sudhakaran et al., TPAMI 2023, arXiv 2203.08897).

    Acts between the last convolution of a block and its norm, on the first `ratio` percent of the
    channels. As in GSM, a 3 x 3 x 3 convolution computes one gate for each half of the channels,
    and the gated part of the first half moves from the next frame, that of the second half from the
    previous frame. GSM adds the rest; GSF weights both: w * moved + (1 - w) * rest, with a w for
    every channel of every frame. It is the sigmoid of a 3 x 3 convolution over neighboring channels
    and frames of the spatial means of moved and rest. The two quarters of each half are then
    interleaved.

    Follows the authors' code; the paper's equations were not compared. The default ratio is that of
    the authors' command line, while their ResNet has 25 if none is given. Blocks of two
    convolutions are ours.

    Causal: both halves read the previous frame, and the gates and weights look back only.

    Weights: 29F + 40 more than the convolution, with F gated channels. Multiply-adds: 27F per pixel
    and frame and 18F per frame more. State when streaming (causal): the gated previous frame, two
    sums for each of the two gates and two for each of the F weights; otherwise it looks three
    frames ahead.

    Args:
        conv: The convolution that it replaces.
        frames: T.
        ratio: Percentage of the channels that are gated. Their number, rounded down and then up to
            an even one, must be a multiple of 4.
        causal: No frame looks ahead.
    """

    inherited = ("conv.",)

    def __init__(
        self, conv: nn.Module, *, frames: int, ratio: float = 100, causal: bool = False
    ) -> None:
        conv = plain_conv(conv, "GSF", groups=True)
        width = _gated_channels(conv.out_channels, ratio)
        super().__init__(
            width,
            frames=frames,
            look_back=5 if causal else 3,
            look_ahead=0 if causal else 3,
            causal=causal,
        )
        self.conv = conv
        # Unlike GSM's, the gates of the authors' code start as PyTorch's convolutions do.
        bound = (27 * self.share) ** -0.5
        nn.init.kaiming_uniform_(self.gate_weight, a=5**0.5)
        nn.init.uniform_(self.gate_bias, -bound, bound)
        # One for each half; the rows of their kernels are channels, the columns frames.
        self.fuse = nn.ModuleList(nn.Conv2d(2, 1, 3) for _ in range(HALVES))
        for layer in self.fuse:
            nn.init.kaiming_normal_(layer.get_parameter("weight"), mode="fan_out")

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Convolves, gates, shifts and fuses: (N, C, H, W) -> (N, O, H/stride, W/stride)."""
        x_NOHW = self.conv(x_NCHW)
        moved_NFHW, rest_NFHW = self.parts(x_NOHW[:, : 2 * self.share])
        raw_N2Q1 = conv_clip(
            _means(moved_NFHW, rest_NFHW),
            self._kernel(),
            self.frames,
            padding=(1, 0),
            groups=HALVES,
            causal=self.causal,
        )
        return self._fused(x_NOHW, moved_NFHW, rest_NFHW, raw_N2Q1)

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Fuses the newest frames with the gated part of the frames before them."""
        x_NOHW = self.conv(x_NCHW)
        moved_NFHW, rest_NFHW = self.parts_step(x_NOHW[:, : 2 * self.share], memory)
        means_N4Q1 = _means(moved_NFHW, rest_NFHW)
        raw_N2Q1 = conv_step(means_N4Q1, self._kernel(), memory, padding=(1, 0), groups=HALVES)
        return self._fused(x_NOHW, moved_NFHW, rest_NFHW, raw_N2Q1)

    def _kernel(self) -> torch.Tensor:
        """Kernels of both halves, (2, 2, 3 frames, 3 channels, 1)."""
        kernel_22QT = torch.cat([layer.get_parameter("weight") for layer in self.fuse])
        return kernel_22QT.transpose(2, 3).unsqueeze(4)

    def _fused(
        self,
        x_NOHW: torch.Tensor,
        moved_NFHW: torch.Tensor,
        rest_NFHW: torch.Tensor,
        raw_N2Q1: torch.Tensor,
    ) -> torch.Tensor:
        bias_2 = torch.cat([layer.get_parameter("bias") for layer in self.fuse])
        weight_NF = torch.sigmoid(raw_N2Q1 + bias_2[:, None, None]).flatten(1)
        out_NFHW = interleaved(rest_NFHW + gate(moved_NFHW - rest_NFHW, weight_NF))
        untouched = x_NOHW.shape[1] - 2 * self.share
        return torch.cat([out_NFHW, x_NOHW[:, -untouched:]], 1) if untouched else out_NFHW


def _gated_channels(channels: int, ratio: float) -> int:
    """Number of gated channels, as in the authors' code."""
    check_range(at_least=1, at_most=100, **{"GSF ratio": ratio})
    gated = int(channels * ratio / 100)
    gated += gated % 2
    if gated == 0 or gated % 4 or gated > channels:
        raise OptionError(
            f"GSF needs a multiple of 4 gated channels, but ratio={ratio} gates {gated} of "
            f"{channels}."
        )
    return gated


def _means(moved_NFHW: torch.Tensor, rest_NFHW: torch.Tensor) -> torch.Tensor:
    """(N, 4, Q, 1): for each half the spatial means of its moved part and of its rest."""
    means_N2F = torch.stack([spatial_mean(moved_NFHW), spatial_mean(rest_NFHW)], 1)
    means_N22Q = torch.unflatten(means_N2F.to(moved_NFHW.dtype), 2, (HALVES, -1)).transpose(1, 2)
    return means_N22Q.flatten(1, 2).unsqueeze(3)
