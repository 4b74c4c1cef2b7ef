"""MEM: motion enhanced module of TEINet. TEINet's TIM is in conv.py."""

import torch
from torch import nn

from kinema.temporal.base import register
from kinema.temporal.kernels.gate import gate, spatial_mean
from kinema.temporal.kernels.layout import pairs, place_pairs
from kinema.temporal.memory import Memory
from kinema.temporal.se import ChannelGate, reduced


@register("mem", at="before_conv1")
class MEM(ChannelGate):
    """Motion enhanced module (TEINet: Liu et al., AAAI 2020, arXiv 1911.09435, eq. 1-3).

    Each channel is scaled by a sigmoid of the difference between the pooled frame and the pooled
    next frame, which two linear layers reduce; the last frame stays unchanged. As in the
    equations there is no norm and no other activation. The paper does not give position and
    biases: only `before_conv1` with biases has its 30.4M parameters.

    Causal: each frame is compared with the previous frame and the first frame stays unchanged.

    Weights: 3C^2/r + 2C/r + C. Multiply-adds: 3C^2/r per frame. State when streaming (causal): the
    reduced descriptor (C/r values) of the previous frame; otherwise it looks one frame ahead.

    Args:
        channels: C.
        frames: T.
        reduction: r.
        causal: Compare with the previous instead of the next frame.
    """

    def __init__(
        self, channels: int, *, frames: int, reduction: int = 8, causal: bool = False
    ) -> None:
        super().__init__(
            frames=frames, look_back=int(causal), look_ahead=int(not causal), causal=causal
        )
        width = reduced(channels, reduction)
        self.reduce_present = nn.Linear(channels, width)
        self.reduce_other = nn.Linear(channels, width)
        self.restore = nn.Linear(width, channels)

    def gate_factors(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C): eq. 1-2, and 1 for the frame without a neighbor."""
        pooled_NC = spatial_mean(x_NCHW).to(x_NCHW.dtype)
        earlier_BPC, later_BPC = pairs(pooled_NC, self.frames)
        present, other = (later_BPC, earlier_BPC) if self.causal else (earlier_BPC, later_BPC)
        motion_BPD = self.reduce_present(present) - self.reduce_other(other)
        gate_BPC = torch.sigmoid(self.restore(motion_BPD))
        return place_pairs(gate_BPC, causal=self.causal, alone=1)

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Gates the newest frames; the memory holds the reduced descriptor."""
        pooled_NC = spatial_mean(x_NCHW).to(x_NCHW.dtype)
        motion_ND = self.reduce_present(pooled_NC) - memory.delay(self.reduce_other(pooled_NC))
        gate_NC = torch.sigmoid(self.restore(motion_ND))
        return gate(x_NCHW, memory.where_started(gate_NC, otherwise=1))
