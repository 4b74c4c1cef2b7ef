"""TSM: the temporal shift module."""

import torch

from kinema.errors import OptionError
from kinema.temporal.base import TemporalModule, register
from kinema.temporal.kernels.shift import shift
from kinema.temporal.memory import Memory, shift_step


@register("tsm", at="before_conv1")
class TSM(TemporalModule):
    """Temporal shift (Lin et al., ICCV 2019, arXiv 1811.08383).

    The first C/divisor channels read the next frame, the following C/divisor the previous one.
    Causal (online TSM): the first C/divisor channels read the previous frame, the others stay;
    note that the slot differs, as in the authors' code. Zeros enter at the borders. The paper's
    residual shift is position `before_conv1`; its in-place variant, which shifts the identity
    path too, is position `block`.

    Weights: none. Multiply-adds: none. State when streaming: one past frame of C/divisor
    channels; the bidirectional form looks one frame ahead.

    Args:
        channels: C.
        frames: T.
        divisor: 1/divisor of the channels is shifted in each direction.
        causal: Only the past enters.
    """

    def __init__(
        self, channels: int, *, frames: int, divisor: int = 8, causal: bool = False
    ) -> None:
        super().__init__(frames=frames, look_back=1, look_ahead=int(not causal), causal=causal)
        directions = 1 if causal else 2
        if divisor < directions:
            raise OptionError(
                f"TSM divisor must be at least {directions} (the shifted shares must fit into the "
                f"channels), got {divisor}."
            )
        share = channels // divisor
        if share == 0:
            raise OptionError(
                f"TSM with divisor {divisor} shifts nothing at a width of {channels} channels; "
                f"use a divisor of at most {channels}."
            )
        self.from_next = 0 if causal else share
        self.from_previous = share

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Shifts: (N, C, H, W) -> (N, C, H, W)."""
        return shift(
            x_NCHW, self.frames, from_next=self.from_next, from_previous=self.from_previous
        )

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Shifts the newest frames; only the shifted channels are remembered."""
        return shift_step(x_NCHW, self.from_previous, memory)

    def extra_repr(self) -> str:
        """Shown in the printed network."""
        return f"from_next={self.from_next}, from_previous={self.from_previous}"
