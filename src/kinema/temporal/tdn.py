"""TDM: long-term temporal difference module of TDN.

Letters: N frames, C channels, H, W, D reduced channels, M = N or 2N differences.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from kinema.temporal.base import TemporalModule, register
from kinema.temporal.kernels.gate import gated_by_halves, map_gate
from kinema.temporal.kernels.layout import pairs, place_pairs
from kinema.temporal.memory import Memory
from kinema.temporal.se import reduced


@register("tdm", at="after_conv1")
class TDM(TemporalModule):
    """Long-term temporal difference module (TDN: Wang et al., CVPR 2021, arXiv 2012.10071).

    Differences between the reduced frame and its transformed, reduced neighbors, one to the next
    and one to the previous frame, are each enriched by a 3 x 3 convolution of themselves and of
    their half-size version, and expanded to a gate for every channel and pixel. With the mean g of
    the two sigmoids, the output is x + x * (g - 1/2). Both differences share all weights.

    Follows the authors' code; the paper's equations were not compared. As in the code, a frame
    without a neighbor has a zero difference, which the norms map to a gate that is not zero, and
    training updates the statistics of the norms twice per step, once for either difference.

    Causal: the gate is the one of the difference to the previous frame alone.

    Weights: 2CD + 18D^2 + 15D + 2C with D = C//r. Multiply-adds: 3CD + 9D + 22.5D^2 per pixel and
    frame. State when streaming (causal): the reduced previous frame (D channels) transformed;
    otherwise it looks one frame ahead.

    Args:
        channels: C.
        frames: T.
        reduction: r.
        causal: No frame looks ahead.
    """

    def __init__(
        self, channels: int, *, frames: int, reduction: int = 16, causal: bool = False
    ) -> None:
        super().__init__(frames=frames, look_back=1, look_ahead=int(not causal), causal=causal)
        width = reduced(channels, reduction)
        self.reduce = _conv_norm(channels, width, 1)
        self.transform = _conv(width, width, 3, groups=width)
        self.coarse = _conv_norm(width, width, 3)
        self.fine = _conv_norm(width, width, 3)
        self.expand = _conv_norm(width, channels, 1)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Gates every pixel by differences to its neighbors in time: (N, C, H, W) -> the same."""
        reduced_NDHW = self.reduce(x_NCHW)
        earlier, later = pairs(reduced_NDHW, self.frames)
        earlier_moved, later_moved = pairs(self.transform(reduced_NDHW), self.frames)
        differences = [place_pairs(earlier_moved - later, causal=True)]
        if not self.causal:
            differences.append(place_pairs(later_moved - earlier, causal=False))
        if self.training:
            # Batch statistics are those of each difference, as in the authors' code.
            halves = [self.expand(self._mixed(difference)) / 2 for difference in differences]
            return gated_by_halves(x_NCHW, halves)
        return self._gated(x_NCHW, torch.cat(differences))

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Gates the newest frames; the memory holds the transformed, reduced frame."""
        reduced_NDHW = self.reduce(x_NCHW)
        difference = memory.delay(self.transform(reduced_NDHW)) - reduced_NDHW
        return self._gated(x_NCHW, memory.where_started(difference))

    def _gated(self, x_NCHW: torch.Tensor, difference_MDHW: torch.Tensor) -> torch.Tensor:
        """Gates the frames in eval mode, where the norm is a part of the last convolution."""
        conv, norm = cast(tuple[nn.Conv2d, nn.BatchNorm2d], tuple(self.expand))
        mixed_MDHW = self._mixed(difference_MDHW)
        scale_C = norm.weight * torch.rsqrt(_known(norm.running_var) + norm.eps) / 2
        bias_C = norm.bias / 2 - _known(norm.running_mean) * scale_C
        return map_gate(x_NCHW, mixed_MDHW, conv.weight[:, :, 0, 0] * scale_C[:, None], bias_C)

    def _mixed(self, difference_MDHW: torch.Tensor) -> torch.Tensor:
        """Mean of the difference and its convolutions at half and at full size."""
        height, width = difference_MDHW.shape[2:]
        # A map of one pixel has no smaller version.
        small = F.avg_pool2d(difference_MDHW, (min(2, height), min(2, width)))
        coarse_MDHW = F.interpolate(self.coarse(small), (height, width))
        fine_MDHW = self.fine(difference_MDHW)
        mixed_MDHW: torch.Tensor = (difference_MDHW + coarse_MDHW + fine_MDHW) / 3
        return mixed_MDHW


def _known(statistic: torch.Tensor | None) -> torch.Tensor:
    assert statistic is not None
    return statistic


def _conv(channels: int, out_channels: int, kernel: int, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, initialized as in the authors' code."""
    conv = nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False)
    nn.init.normal_(conv.weight, std=(2 / (kernel**2 * out_channels)) ** 0.5)
    return conv


def _conv_norm(channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(_conv(channels, out_channels, kernel), nn.BatchNorm2d(out_channels))
