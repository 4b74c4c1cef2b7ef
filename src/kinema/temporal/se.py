"""Base class of channel gates, and SE: squeeze and excitation of every frame."""

from abc import abstractmethod

import torch
from torch import nn

from kinema.errors import OptionError
from kinema.temporal.base import TemporalModule, register
from kinema.temporal.kernels.gate import gate, spatial_mean


def reduced(channels: int, reduction: int) -> int:
    """Width of a bottleneck: C // reduction, rounded down as in the authors' code.

    Raises:
        OptionError: the width would be 0.
    """
    width = channels // reduction if reduction > 0 else 0
    if width == 0:
        raise OptionError(
            f"reduction={reduction} leaves no channel of {channels}; use a reduction between 1 and "
            f"{channels}."
        )
    return width


class ChannelGate(TemporalModule):
    """Temporal module that only multiplies each channel of each frame by a factor."""

    @abstractmethod
    def gate_factors(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C): the factors."""

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Scales the channels: (N, C, H, W) -> (N, C, H, W)."""
        return gate(x_NCHW, self.gate_factors(x_NCHW))


@register("se", at="before_conv1")
class SE(ChannelGate):
    """Squeeze and excitation of single frames (Hu et al., CVPR 2018, arXiv 1709.01507, eq. 2-4).

    It mixes no frames. TEINet (section 4.3, SE+TIM) and TAM (section 4.3, Global + SE) compare
    their own attention with it. TEINet does not give the reduction; 8 is that of its MEM.

    Weights: 2C^2/r + C/r + C with biases. Multiply-adds: 2C^2/r per frame. State when streaming:
    none.

    Args:
        channels: C.
        frames: T.
        reduction: r.
        bias: True if the two linear layers have biases.
        causal: No effect, since no other frame is read.
    """

    def __init__(
        self,
        channels: int,
        *,
        frames: int,
        reduction: int = 8,
        bias: bool = True,
        causal: bool = False,
    ) -> None:
        super().__init__(frames=frames, look_back=0, look_ahead=0, causal=causal)
        width = reduced(channels, reduction)
        self.squeeze = nn.Linear(channels, width, bias=bias)
        self.expand = nn.Linear(width, channels, bias=bias)

    def gate_factors(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C): sigmoid of two linear layers on the frame's means."""
        means_NC = spatial_mean(x_NCHW).to(x_NCHW.dtype)
        return torch.sigmoid(self.expand(torch.relu(self.squeeze(means_NC))))
