"""SlowFast: two ResNet-50 trunks at two frame rates, built from the parts of other networks.

The slow trunk sees every eighth frame, the fast one all frames with an eighth of the channels;
after the stem and after each stage but the last, features of the fast trunk join the slow one
(Feichtenhofer et al., ICCV 2019, arXiv 1812.03982, section 3). The temporal modules of the blocks,
3 x 1 x 1 convolutions (`i3d`) or others, are not part of the backbone.

Letters: B clips, T frames, N = B*T, R = N/ALPHA slow frames, C channels, H, W, D features.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from kinema.system.image_libraries import timm
from kinema.temporal import Inflated, TemporalModule
from kinema.temporal.kernels.layout import fold_view, time_view

# Frames of the fast pathway per slow frame, and slow channels per fast channel.
ALPHA = 8
BETA = 8
BLOCKS = (3, 4, 6, 3)
SLOW_CHANNELS = (64, 128, 256, 512)
FAST_CHANNELS = tuple(channels // BETA for channels in SLOW_CHANNELS)
STEM_CHANNELS = 64
# Channels of a lateral connection per channel of the fast pathway.
LATERAL = 2
TAPS = 5

# Table 1: 3 x 1 x 1 convolutions in res4 and res5 of the slow trunk and everywhere in the fast one.
# In every stage the slow trunk's blocks come first.
TEMPORAL_BLOCKS: Mapping[int, tuple[int, ...]] = {
    stage: tuple(range(0 if stage >= 4 else blocks, 2 * blocks))
    for stage, blocks in zip((2, 3, 4, 5), BLOCKS, strict=True)
}


class LateralConnection(TemporalModule):
    """A 5 x 1 x 1 convolution with stride ALPHA in time, from the fast to the slow pathway.

    Args:
        channels: C of the fast pathway; the output has 2C.
        frames: T of the fast pathway.
    """

    def __init__(self, channels: int, *, frames: int) -> None:
        super().__init__(frames=frames, look_back=TAPS // 2, look_ahead=TAPS // 2)
        out_channels = LATERAL * channels
        self.weight = nn.Parameter(torch.empty(out_channels, channels, TAPS, 1))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Applies the convolution: (N, C, H, W) -> (R, 2C, H, W)."""
        out_BCTS = F.conv2d(
            time_view(x_NCHW, self.frames), self.weight, stride=(ALPHA, 1), padding=(TAPS // 2, 0)
        )
        height, width = x_NCHW.shape[2:]
        return torch.relu(self.norm(fold_view(out_BCTS, height, width)))


class SlowFast(nn.Module):
    """Both trunks: (N, 3, H, W) -> (N, D), with each slow feature repeated for ALPHA frames.

    The mean over the frames of a linear layer's scores then equals that layer on the pooled
    features of both pathways, the paper's head.

    Args:
        frames: T, a multiple of ALPHA.
    """

    features = 4 * (SLOW_CHANNELS[-1] + FAST_CHANNELS[-1])

    def __init__(self, *, frames: int) -> None:
        super().__init__()
        self.slow = _trunk(SLOW_CHANNELS)
        self.fast = _trunk(FAST_CHANNELS)
        stem = nn.Conv2d(3, FAST_CHANNELS[0], 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        self.fast.set_submodule("conv1", Inflated(stem, frames=frames, kernel=TAPS))
        self.fast.set_submodule("bn1", nn.BatchNorm2d(FAST_CHANNELS[0]))
        _set_input(self.fast.get_submodule("layer1.0"), FAST_CHANNELS[0])
        fast_widths = (FAST_CHANNELS[0], *(4 * channels for channels in FAST_CHANNELS[:-1]))
        slow_widths = (STEM_CHANNELS, *(4 * channels for channels in SLOW_CHANNELS[:-1]))
        self.laterals = nn.ModuleList(LateralConnection(c, frames=frames) for c in fast_widths)
        for stage, (slow, fast) in enumerate(zip(slow_widths, fast_widths, strict=True), 1):
            _set_input(self.slow.get_submodule(f"layer{stage}.0"), slow + LATERAL * fast)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Features of every frame of clips whose length is a multiple of ALPHA."""
        slow, fast = _stem(self.slow, x_NCHW[::ALPHA]), _stem(self.fast, x_NCHW)
        for stage, lateral in enumerate(self.laterals, 1):
            slow = torch.cat([slow, lateral(fast)], 1)
            slow = self.slow.get_submodule(f"layer{stage}")(slow)
            fast = self.fast.get_submodule(f"layer{stage}")(fast)
        slow_ND = slow.mean((2, 3)).repeat_interleave(ALPHA, 0)
        return torch.cat([slow_ND, fast.mean((2, 3))], 1)


def _trunk(channels: tuple[int, ...]) -> timm.models.resnet.ResNet:
    # timm annotates the class of the blocks as one of its instances.
    block = cast(Any, timm.models.resnet.Bottleneck)
    return timm.models.resnet.ResNet(block, BLOCKS, num_classes=0, channels=channels)


def _stem(trunk: timm.models.resnet.ResNet, x_NCHW: torch.Tensor) -> torch.Tensor:
    out_NCHW: torch.Tensor = trunk.maxpool(trunk.act1(trunk.bn1(trunk.conv1(x_NCHW))))
    return out_NCHW


def _set_input(block: nn.Module, channels: int) -> None:
    """Changes the number of input channels of a stage's first block."""
    for parent, leaf in ((block, "conv1"), (block.get_submodule("downsample"), "0")):
        old = cast(nn.Conv2d, parent.get_submodule(leaf))
        stride = (old.stride[0], old.stride[1])
        new = nn.Conv2d(channels, old.out_channels, 1, stride=stride, bias=False)
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
        setattr(parent, leaf, new)
