"""Short-term branch of TDN: a ResNet that sees each frame with its neighbors.

Letters: N snippets, S frames of a snippet, C channels, H, W, D features.
"""

import copy
from typing import TypeGuard, cast

import torch
import torch.nn.functional as F
from torch import nn

from kinema.errors import OptionError, SiteError
from kinema.system.image_libraries import timm
from kinema.values import check_snippet

# The share of the differences in stem and res2, for 8 snippets and for all other numbers.
SHARE_OF_8, SHARE = 0.5, 0.25


class SnippetResNet(nn.Module):
    """ResNet with the short-term branch of TDN: (N, S*3, H, W) -> (N, D).

    The center frame of a snippet passes the ResNet. The differences of adjacent frames, at half the
    size, pass a stem and a res2 of their own, each of whose outputs is mixed with that of the
    ResNet (TDN: Wang et al., CVPR 2021, arXiv 2012.10071). As in the authors' code the
    mixture has equal parts for 8 snippets, otherwise a quarter of the differences, and every
    convolution but the stem of the differences has a bias in front of its norm. The weights of that
    stem start as the mean of the ResNet's over the colors, those of its res2 as the ResNet's.

    Args:
        net: The ResNet, whose layers become part of this one.
        snippet: S, odd.
        frames: T, snippets of a clip.

    Raises:
        SiteError: the network is no ResNet of timm.
    """

    conv1: nn.Module
    bn1: nn.Module
    act1: nn.Module
    maxpool: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module
    global_pool: nn.Module
    difference_stem: nn.Module
    difference_layer1: nn.Module

    def __init__(self, net: nn.Module, *, snippet: int, frames: int) -> None:
        super().__init__()
        if not takes_snippets(net):
            raise SiteError(
                "The short-term branch of TDN belongs to a ResNet of timm, such as resnet50, but "
                f"this backbone is {type(net).__name__}."
            )
        check_snippet(snippet)
        if snippet == 1:
            raise OptionError("The short-term branch needs snippets of at least 3 frames, got 1.")
        self.snippet = snippet
        self.frames = frames
        for name, layer in net.named_children():
            self.add_module(name, layer)
        stem = nn.Sequential(*copy.deepcopy([net.conv1, net.bn1, net.act1, net.maxpool]))
        self.difference_layer1 = copy.deepcopy(net.get_submodule("layer1"))
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d) and conv.bias is None:
                conv.bias = _new_bias(conv)
        self.difference_stem = _for_differences(stem, snippet - 1)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Features of every snippet; its frames are next to each other along the channels."""
        middle = self.snippet // 2 * 3
        small_NCHW = F.avg_pool2d(x_NCHW, 2)
        # The pooled difference is the difference of the pooled frames.
        motion = self.difference_stem(small_NCHW[:, 3:] - small_NCHW[:, :-3])
        center = x_NCHW[:, middle : middle + 3]
        features = self.maxpool(self.act1(self.bn1(self.conv1(center))))
        # Before res2 of the differences: fused blocks write into their input.
        features = self._mixed(features, motion)
        features = self.layer1(features)
        features = self._mixed(features, self.difference_layer1(motion))
        features_ND: torch.Tensor = self.global_pool(
            self.layer4(self.layer3(self.layer2(features)))
        )
        return features_ND

    def new_tensors(self) -> set[str]:
        """Names of the tensors that start from nothing, whatever the weights of the ResNet."""
        return {
            f"{name}.{key}"
            for name, part in self.named_modules()
            for key in part.state_dict()
            if (isinstance(part, nn.Conv2d) and key == "bias")
            or (isinstance(part, nn.BatchNorm2d) and name.startswith("difference_stem."))
        }

    def _mixed(self, features: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
        share = SHARE_OF_8 if self.frames == 8 else SHARE
        return torch.lerp(features, F.interpolate(motion, features.shape[2:]), share)


def takes_snippets(net: nn.Module) -> TypeGuard[timm.models.resnet.ResNet]:
    """True if the short-term branch can be put into this backbone."""
    return isinstance(net, timm.models.resnet.ResNet)


def _for_differences(stem: nn.Sequential, count: int) -> nn.Sequential:
    """Changes a copy of a stem to `count` differences of RGB frames, with new norms."""
    convs = [name for name, part in stem.named_modules() if isinstance(part, nn.Conv2d)]
    old = cast(nn.Conv2d, stem.get_submodule(convs[0]))
    new = copy.deepcopy(old)
    new.in_channels = 3 * count
    # Not divided by their number, as in the authors' code.
    mean = old.weight.detach().mean(1, keepdim=True)
    new.weight = nn.Parameter(mean.repeat(1, new.in_channels, 1, 1))
    stem.set_submodule(convs[0], new)
    for part in stem.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()
    return stem


def _new_bias(conv: nn.Conv2d) -> nn.Parameter:
    """Bias as PyTorch's convolutions have it at first: TDN's weight files of ResNet hold none."""
    bound = conv.weight[0].numel() ** -0.5
    return nn.Parameter(conv.weight.new_empty(conv.out_channels).uniform_(-bound, bound))
