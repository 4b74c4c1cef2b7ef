"""TDM: long-term temporal difference module of TDN.

Letters: N frames, C channels, H, W, D reduced channels, M = N or 2N differences.
"""

import functools
import operator

import torch
import torch.nn.functional as F
from torch import nn

from kinema.temporal.base import TemporalModule, register
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

    Follows the authors' code, not the paper's equations, where the sign of the difference is the
    opposite and nothing is subtracted from the sigmoids. As in the code, a frame without a neighbor
    has a zero difference, which the norms map to a gate that is not zero, and training updates the
    statistics of the norms twice per step, for either difference.

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
        else:
            both = self._expanded(torch.cat(differences))
            halves = list(torch.unflatten(both, 0, (len(differences), -1)).unbind(0))
        return _gated(x_NCHW, halves)

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Gates the newest frames; the memory holds the transformed, reduced frame."""
        reduced_NDHW = self.reduce(x_NCHW)
        difference = memory.delay(self.transform(reduced_NDHW)) - reduced_NDHW
        return _gated(x_NCHW, [self._expanded(memory.where_started(difference))])

    def _mixed(self, difference_MDHW: torch.Tensor) -> torch.Tensor:
        """Mean of the difference and its convolutions at half and at full size."""
        height, width = difference_MDHW.shape[2:]
        # A map of one pixel has no smaller version.
        small = F.avg_pool2d(difference_MDHW, (min(2, height), min(2, width)))
        coarse_MDHW = F.interpolate(self.coarse(small), (height, width))
        fine_MDHW = self.fine(difference_MDHW)
        return (difference_MDHW + coarse_MDHW + fine_MDHW) / 3

    def _expanded(self, difference_MDHW: torch.Tensor) -> torch.Tensor:
        """(M, D, H, W) -> (M, C, H, W): half of the gate before its sigmoid, in eval mode.

        Norm and half go into the few weights of the convolution, which saves passes over the maps.
        """
        conv, norm = self.expand
        mixed_MDHW = self._mixed(difference_MDHW)
        if not isinstance(norm, nn.BatchNorm2d):  # folded before
            half_MCHW: torch.Tensor = conv(mixed_MDHW) / 2
            return half_MCHW
        scale_C = norm.weight * torch.rsqrt(norm.running_var + norm.eps) / 2
        shift_C = norm.bias / 2 - norm.running_mean * scale_C
        return F.conv2d(mixed_MDHW, conv.weight * scale_C[:, None, None, None], shift_C)


def _gated(x_NCHW: torch.Tensor, halves: list[torch.Tensor]) -> torch.Tensor:
    """x + x * (mean of the sigmoids - 1/2), where sigmoid(2h) - 1/2 is tanh(h) / 2."""
    gates = functools.reduce(operator.add, map(torch.tanh, halves))
    return torch.addcmul(x_NCHW, x_NCHW, gates, value=0.5 / len(halves))


def _conv(channels: int, out_channels: int, kernel: int, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, initialized as in the authors' code."""
    conv = nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False)
    nn.init.normal_(conv.weight, std=(2 / (kernel**2 * out_channels)) ** 0.5)
    return conv


def _conv_norm(channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(_conv(channels, out_channels, kernel), nn.BatchNorm2d(out_channels))
