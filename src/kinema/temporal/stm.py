"""STM: channel-wise spatio-temporal and channel-wise motion modules."""

import torch
from torch import nn

from kinema.temporal.base import TemporalModule, register
from kinema.temporal.conv import TIM, reach
from kinema.temporal.inflated import plain_conv
from kinema.temporal.kernels.layout import pairs, place_pairs
from kinema.temporal.memory import Memory
from kinema.temporal.se import reduced
from kinema.temporal.tea import conv1x1, depthwise3x3


@register("stm", at="replace_conv2")
class STM(TemporalModule):
    """Spatio-temporal and motion encoding (STM: Jiang et al., ICCV 2019, arXiv 1908.02486).

    Replaces a block's 3 x 3 convolution by the sum of two paths (section 3). CSTM: a depth-wise
    temporal convolution that starts as a quarter shift, then the 3 x 3 convolution. CMM: the
    difference between the reduced frame and the convolved, reduced next frame, expanded again. No
    code is published. As in re-implementations the only norm inside is behind the reduction, so
    that the block's norm acts on the sum.

    Causal: the difference of two frames is added to the later frame.

    Weights: 3C + 2Cm + 9m + 2m more than the convolution, m = C//r. Multiply-adds: 3C + 2Cm + 9m
    more per pixel and frame. State when streaming (causal): two past frames and
    the reduced previous frame (2C + m channels); otherwise it looks one frame ahead.

    Args:
        conv: The convolution that it replaces.
        frames: T.
        reduction: r.
        causal: No frame looks ahead.
    """

    inherited = ("conv.",)

    def __init__(
        self, conv: nn.Module, *, frames: int, reduction: int = 16, causal: bool = False
    ) -> None:
        super().__init__(frames=frames, causal=causal, **reach(3, causal=causal))
        conv = plain_conv(conv, "STM", groups=True)
        width = reduced(conv.in_channels, reduction)
        self.shift = TIM(conv.in_channels, frames=frames, init="quarter_shift", causal=causal)
        self.conv = conv
        self.reduce = nn.Sequential(conv1x1(conv.in_channels, width), nn.BatchNorm2d(width))
        self.transform = depthwise3x3(width)
        self.expand = conv1x1(width, conv.out_channels)
        self.expand.stride = conv.stride

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Sums both paths: (N, C, H, W) -> (N, O, H/stride, W/stride)."""
        reduced_NDHW = self.reduce(x_NCHW)
        present, _ = pairs(reduced_NDHW, self.frames)
        _, following = pairs(self.transform(reduced_NDHW), self.frames)
        motion_NDHW = place_pairs(following - present, causal=self.causal)
        return self._sum(self.shift(x_NCHW), motion_NDHW)

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Sums both paths for the newest frames."""
        reduced_NDHW = self.reduce(x_NCHW)
        motion_NDHW = self.transform(reduced_NDHW) - memory.delay(reduced_NDHW)
        return self._sum(self.shift.step(x_NCHW, memory), memory.where_started(motion_NDHW))

    def _sum(self, shifted_NCHW: torch.Tensor, motion_NDHW: torch.Tensor) -> torch.Tensor:
        return torch.add(self.conv(shifted_NCHW), self.expand(motion_NDHW))
