"""CT: grouped convolutions in space and in time over channels seen as a grid, with attention.

Letters: B clips, T frames, N = B*T, C channels, H, W, D reduced channels, G groups, X rows and Y
columns of the grid of channels, C = X*Y.
"""

from collections.abc import Callable

import torch
from torch import nn

from kinema.errors import OptionError
from kinema.temporal.base import TemporalModule, register
from kinema.temporal.inflated import plain_conv
from kinema.temporal.kernels.dense import conv_time
from kinema.temporal.kernels.gate import gate, spatial_mean

TAPS = 3
REDUCTION = 4
# Fewer channels do not give every group of the larger side a reduced channel.
LEAST_CHANNELS = 16


@register("ctnet", at="replace_conv2")
class CT(TemporalModule):
    """Channel tensorization module (CT-Net: Li et al., ICLR 2021, arXiv 2106.01603).

    Replaces a block's 3 x 3 convolution and the norm behind it. The channels are seen as a grid of
    X rows and Y columns. Two sub-modules mix the frames, one with a group for every row and, behind
    a 1 x 1 convolution, one with a group for every column, so that together they reach all
    channels with grouped convolutions only. Each adds a 3 x 3 convolution in space and one of three
    taps in time, and multiplies by attention: the spatial path by a map of the clip, the temporal
    one by a factor for every channel of every frame, and their sum by another such factor.

    Follows the authors' code; the paper's equations were not compared. The output is never
    negative, so an activation behind it changes nothing. Their blocks have three convolutions;
    those of two are ours. The default blocks are those of the authors' script: every second one of
    a stage, from the second on.

    Weights: C^2 + 2C, and for each of G = X and G = Y 12 C^2/G + 4C + 13 C^2/(2G) + 3C/2. They
    replace those of the convolution and the norm. Multiply-adds per pixel and frame: C^2 and
    12 C^2/G for each G, and the attention maps of the clip. State when streaming: there is no
    causal form, because the spatial attention averages the whole clip.

    Args:
        conv: The convolution that it replaces, with stride 1 and as many outputs as inputs; only
            the width is used. The width is a power of two, at least 16.
        norm: The norm behind it, which it replaces, too.
        frames: T.
        causal: Not supported; True raises OptionError.
    """

    has_causal_form = False

    def __init__(
        self, conv: nn.Module, norm: nn.Module, *, frames: int, causal: bool = False
    ) -> None:
        super().__init__(frames=frames, look_back=None, look_ahead=None, causal=causal)
        conv = plain_conv(conv, "CT")
        channels = conv.in_channels
        if conv.out_channels != channels or conv.stride != (1, 1) or conv.kernel_size != (3, 3):
            raise OptionError(
                f"CT replaces a 3 x 3 convolution with stride 1 and as many outputs as inputs, but "
                f"this one is {conv}. Choose other blocks: by default those with odd numbers."
            )
        if channels < LEAST_CHANNELS or channels & (channels - 1):
            raise OptionError(
                f"CT needs a power of two of channels, at least {LEAST_CHANNELS}, got {channels}."
            )
        rows = 1 << (channels.bit_length() - 1) // 2
        self.grid = (rows, channels // rows)
        self.rows = _GroupedMix(channels, rows, frames=frames)
        self.fusion = nn.Sequential(_conv(channels, channels, 1), nn.BatchNorm2d(channels))
        self.columns = _GroupedMix(channels, channels // rows, frames=frames)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Mixes rows and columns of channels: (N, C, H, W) -> (N, C, H, W)."""
        fused_NCHW = torch.relu(self.fusion(self.rows(x_NCHW)))
        by_row_NXYHW = torch.unflatten(fused_NCHW, 1, self.grid)
        mixed_NCHW = self.columns(by_row_NXYHW.transpose(1, 2).flatten(1, 2))
        by_column_NYXHW = torch.unflatten(mixed_NCHW, 1, self.grid[::-1])
        return by_column_NYXHW.transpose(1, 2).flatten(1, 2)

    def extra_repr(self) -> str:
        """The grid in the printed network."""
        return f"{self.grid[0]} x {self.grid[1]} channels"


class _GroupedMix(TemporalModule):
    """Convolutions in space and in time with G groups, and their attention."""

    def __init__(self, channels: int, groups: int, *, frames: int) -> None:
        super().__init__(frames=frames, look_back=None, look_ahead=None)
        self.spatial = nn.Sequential(
            _conv(channels, channels, 3, groups=groups), nn.BatchNorm2d(channels)
        )
        self.temporal = nn.Sequential(
            _TimeConv(channels, channels, groups, frames=frames), nn.BatchNorm2d(channels)
        )

        def attention(layer: Callable[[int, int], nn.Module]) -> nn.Sequential:
            width = channels // REDUCTION
            norm, activation = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
            return nn.Sequential(
                layer(channels, width), norm, activation, layer(width, channels), nn.Sigmoid()
            )

        self.spatial_attention = attention(lambda i, o: _conv(i, o, 3, groups=groups))
        self.temporal_attention = attention(lambda i, o: _TimeConv(i, o, groups, frames=frames))
        self.channel_attention = attention(lambda i, o: _conv(i, o, 1, groups=groups))

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        spatial_BTCHW = torch.unflatten(torch.relu(self.spatial(x_NCHW)), 0, (-1, self.frames))
        map_BCHW = self.spatial_attention(spatial_BTCHW.mean(1))
        spatial_NCHW = (spatial_BTCHW * map_BCHW.unsqueeze(1)).flatten(0, 1)
        temporal_NCHW = torch.relu(self.temporal(x_NCHW))
        sum_NCHW = spatial_NCHW + self._gated(temporal_NCHW, self.temporal_attention)
        return self._gated(sum_NCHW, self.channel_attention)

    def _gated(self, x_NCHW: torch.Tensor, attention: nn.Module) -> torch.Tensor:
        means_NC = spatial_mean(x_NCHW).to(x_NCHW.dtype)
        return gate(x_NCHW, attention(means_NC[:, :, None, None]).flatten(1))


class _TimeConv(TemporalModule):
    """Convolution of three taps along time, with groups and without bias."""

    def __init__(self, channels: int, outputs: int, groups: int, *, frames: int) -> None:
        super().__init__(frames=frames, look_back=TAPS // 2, look_ahead=TAPS // 2)
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(outputs, channels // groups, TAPS, 1))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return conv_time(x_NCHW, self.weight, self.frames, groups=self.groups)


def _conv(channels: int, outputs: int, side: int, *, groups: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(channels, outputs, side, padding=side // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
