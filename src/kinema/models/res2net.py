"""Res2Net's block with its 3x3 convolutions as one layer, `conv2`.

timm's block splits, convolves and joins inside its forward with a shared activation, so no module
can precede or replace the group of convolutions. This form computes the same from the same
tensors (`convs.i` and `bns.i` move below `conv2`).
"""

import torch
from torch import nn

from kinema.system.image_libraries import timm


class ScaleConv(nn.Module):
    """The hierarchy of 3x3 convolutions over channel groups (Gao et al., TPAMI 2021).

    With `first` (the first block of a stage) the groups are convolved independently and the last
    one is average-pooled; otherwise group i is convolved after adding the result of group i-1 and
    the last one passes unchanged.
    """

    def __init__(self, block: timm.models.res2net.Bottle2neck) -> None:
        super().__init__()
        self.in_channels = self.out_channels = block.width * block.scale
        self.width = block.width
        self.first = block.is_first
        self.convs = block.convs
        self.bns = block.bns
        self.act = nn.ReLU(inplace=True)
        self.pool = block.pool if block.pool is not None else nn.Identity()

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Applies the hierarchy: (N, C, H, W) -> (N, C, H/stride, W/stride)."""
        groups = torch.split(x_NCHW, self.width, 1)
        outputs: list[torch.Tensor] = []
        for i, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            group = groups[i] if i == 0 or self.first else groups[i] + outputs[-1]
            outputs.append(self.act(bn(conv(group))))
        outputs.append(self.pool(groups[-1]))
        return torch.cat(outputs, 1)


class Res2NetBlock(nn.Module):
    """conv1-BN-ReLU, conv2 (`ScaleConv`, with its norms and activations), conv3-BN, addition."""

    def __init__(self, block: timm.models.res2net.Bottle2neck) -> None:
        super().__init__()
        self.conv1 = block.conv1
        self.bn1 = block.bn1
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = ScaleConv(block)
        self.conv3 = block.conv3
        self.bn3 = block.bn3
        self.se = block.se if block.se is not None else nn.Identity()
        self.downsample = block.downsample if block.downsample is not None else nn.Identity()
        self.act3 = nn.ReLU(inplace=True)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Applies the block: (N, C, H, W) -> (N, 4p, H/stride, W/stride)."""
        out = self.act1(self.bn1(self.conv1(x_NCHW)))
        out = self.se(self.bn3(self.conv3(self.conv2(out))))
        result: torch.Tensor = self.act3(out + self.downsample(x_NCHW))
        return result


def split_res2net_blocks(backbone: nn.Module) -> None:
    """Replaces every Res2Net block of a timm network by a `Res2NetBlock`."""
    for module in list(backbone.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, timm.models.res2net.Bottle2neck):
                setattr(module, name, Res2NetBlock(child))
