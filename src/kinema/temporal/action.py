"""ACTION: a gate for every pixel and two for every channel, behind a temporal convolution.

Letters: N frames, C channels, H, W, D reduced channels.
"""

import torch
from torch import nn

from kinema.temporal.base import TemporalModule, register
from kinema.temporal.conv import TIM, reach
from kinema.temporal.kernels.dense import conv_clip, conv_time
from kinema.temporal.kernels.gate import gate, spatial_mean
from kinema.temporal.kernels.layout import pairs, place_pairs
from kinema.temporal.memory import Memory, conv_step
from kinema.temporal.se import reduced


@register("action", at="before_conv1")
class ACTION(TemporalModule):
    """Multipath excitation (ACTION-Net: Wang, She and Smolic, CVPR 2021, arXiv 2103.07372).

    A depth-wise temporal convolution that starts as a part shift gives s. Three paths read s, each
    computes a gate with a sigmoid, and the output is s * (3 + g1 + g2 + g3):

    - Spatio-temporal excitation: a 3 x 3 x 3 convolution of the mean over the channels gives a map
      g1 of every frame, shared by its channels.
    - Channel excitation: the spatial mean, reduced, convolved along time and, behind a ReLU,
      expanded gives a factor g2 for every channel of every frame.
    - Motion excitation: the difference between the reduced frame and the transformed, reduced next
      frame, as in TEA, is pooled and expanded to a factor g3 for every channel of every frame.
      Unlike in TEA there is no norm behind the expansion, so the last frame's g3 is exactly 1/2.

    Follows the authors' code; the paper's equations were not compared. The factor is between 3 and
    6, so the statistics of the norm behind conv1 have to be learned anew.

    Causal: all convolutions look back only, and the difference of two frames gates the later one.

    Weights: 3C + 27 + 4CD + 3D^2 + 11D with D = C//r. Multiply-adds: 3C + 27 + CD + 9D per pixel
    and frame, 3CD + 3D^2 per frame. State when streaming (causal): two past frames of C channels,
    two sums for each pixel of g1 and for each of the D reduced channels of g2, and the means of
    the reduced previous frame (D values); otherwise it looks two frames ahead.

    Args:
        channels: C.
        frames: T.
        reduction: r.
        causal: No frame looks ahead.
    """

    def __init__(
        self, channels: int, *, frames: int, reduction: int = 16, causal: bool = False
    ) -> None:
        super().__init__(frames=frames, causal=causal, **reach(3, causal=causal, times=2))
        width = reduced(channels, reduction)
        self.shift = TIM(channels, frames=frames, causal=causal)
        self.spatial_weight = nn.Parameter(torch.empty(1, 1, 3, 3, 3))
        self.channel_reduce = nn.Conv2d(channels, width, 1, bias=False)
        self.channel_weight = nn.Parameter(torch.empty(width, width, 3, 1))
        self.channel_expand = nn.Conv2d(width, channels, 1, bias=False)
        self.motion_reduce = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        )
        self.motion_transform = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.motion_expand = nn.Conv2d(width, channels, 1, bias=False)
        # As PyTorch's convolutions do.
        for weight in (self.spatial_weight, self.channel_weight):
            nn.init.kaiming_uniform_(weight, a=5**0.5)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Convolves along time and excites: (N, C, H, W) -> (N, C, H, W)."""
        s_NCHW = self.shift(x_NCHW)
        raw_N1HW = conv_clip(
            s_NCHW.mean(1, keepdim=True),
            self.spatial_weight,
            self.frames,
            padding=(1, 1),
            causal=self.causal,
        )
        mixed_ND11 = conv_time(
            self._reduced_means(s_NCHW), self.channel_weight, self.frames, causal=self.causal
        )
        means_ND, transformed_ND = self._motion_means(s_NCHW)
        present, _ = pairs(means_ND, self.frames)
        _, following = pairs(transformed_ND, self.frames)
        motion_ND = place_pairs(following - present, causal=self.causal)
        return self._excited(s_NCHW, raw_N1HW, mixed_ND11, motion_ND)

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Convolves and excites the newest frames."""
        s_NCHW = self.shift.step(x_NCHW, memory)
        raw_N1HW = conv_step(
            s_NCHW.mean(1, keepdim=True), self.spatial_weight, memory, padding=(1, 1)
        )
        weight_DDT11 = self.channel_weight.unsqueeze(3)
        mixed_ND11 = conv_step(self._reduced_means(s_NCHW), weight_DDT11, memory)
        means_ND, transformed_ND = self._motion_means(s_NCHW)
        motion_ND = memory.where_started(transformed_ND - memory.delay(means_ND))
        return self._excited(s_NCHW, raw_N1HW, mixed_ND11, motion_ND)

    def _reduced_means(self, s_NCHW: torch.Tensor) -> torch.Tensor:
        """(N, D, 1, 1): the frame that the channel excitation convolves along time."""
        means_NC = spatial_mean(s_NCHW).to(s_NCHW.dtype)
        reduced_ND11: torch.Tensor = self.channel_reduce(means_NC[:, :, None, None])
        return reduced_ND11

    def _motion_means(self, s_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Means of each frame as the earlier and as the later frame of a pair; see TEA's ME."""
        reduced_NDHW = self.motion_reduce(s_NCHW)
        return spatial_mean(reduced_NDHW), spatial_mean(self.motion_transform(reduced_NDHW))

    def _excited(
        self,
        s_NCHW: torch.Tensor,
        raw_N1HW: torch.Tensor,
        mixed_ND11: torch.Tensor,
        motion_ND: torch.Tensor,
    ) -> torch.Tensor:
        """Frames times 3 and the sigmoids of the three paths."""
        channel_NC11 = self.channel_expand(torch.relu(mixed_ND11))
        motion_NC11 = self.motion_expand(motion_ND.to(s_NCHW.dtype)[:, :, None, None])
        factors_NC11 = 3 + torch.sigmoid(channel_NC11) + torch.sigmoid(motion_NC11)
        map_N1HW = torch.sigmoid(raw_N1HW).to(s_NCHW.dtype)
        return torch.addcmul(gate(s_NCHW, factors_NC11.flatten(1)), s_NCHW, map_N1HW)
