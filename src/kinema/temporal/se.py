"""Channel gates: what they share, and SE, squeeze and excitation of every frame."""

from abc import abstractmethod

import torch
from torch import nn

from kinema.errors import OptionError
from kinema.temporal.base import TemporalModule, register
from kinema.temporal.kernels.gate import gate, spatial_mean


def reduced(channels: int, reduction: int) -> int:
    """The width of a bottleneck: C // reduction, rounded down as in the authors' code.

    Raises:
        OptionError: nothing would be left.
    """
    width = channels // reduction if reduction > 0 else 0
    if width == 0:
        raise OptionError(
            f"reduction={reduction} leaves no channel at a width of {channels}; use a reduction "
            f"between 1 and {channels}."
        )
    return width


class ChannelGate(TemporalModule):
    """A module that multiplies every channel of every frame by a factor of its own."""

    @abstractmethod
    def gate_factors(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C): the factors."""

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Scales the channels: (N, C, H, W) -> (N, C, H, W)."""
        return gate(x_NCHW, self.gate_factors(x_NCHW))


@register("se", at="before_conv1")
class SE(ChannelGate):
    """Squeeze and excitation (Hu et al., CVPR 2018) of every frame by itself.

    It mixes no frames: it is the comparison that TEINet (section 4.3, SE+TIM) and TAM
    (section 4.3, Global + SE) put in place of their own attention. TEINet names no reduction; 8
    is that of its MEM.

    Weights: 2C^2/r + C/r + C with biases. Multiply-adds: 2C^2/r per frame. State when streaming:
    none.

    Args:
        channels: C.
        frames: T.
        reduction: r.
        bias: Whether the two linear layers have biases.
        causal: Changes nothing, as no other frame is read.
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
        """(N, C, H, W) -> (N, C): a sigmoid of two layers on the frame's means."""
        means_NC = spatial_mean(x_NCHW).to(x_NCHW.dtype)
        return torch.sigmoid(self.expand(torch.relu(self.squeeze(means_NC))))
