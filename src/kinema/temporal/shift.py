"""TSM: temporal shift module."""

import torch

from kinema.errors import OptionError, check_range
from kinema.temporal.base import TemporalModule, register
from kinema.temporal.kernels.shift import shift
from kinema.temporal.memory import Memory


@register("tsm", at="before_conv1")
class TSM(TemporalModule):
    """Temporal shift (TSM: Lin et al., ICCV 2019, arXiv 1811.08383, section 3).

    The first C/divisor channels read the next frame, the following C/divisor the previous frame.
    Zeros enter at the ends of the clip. The paper's residual shift is position `before_conv1`; its
    in-place variant, which shifts the identity path too, is position `block`.

    Causal (the online TSM): the first C/divisor channels read the previous frame and the others
    stay. As in the authors' code, these are not the channels that read it in the offline form.

    Weights: none. Multiply-adds: none. State when streaming (causal): C/divisor channels of the
    previous frame; otherwise it looks one frame ahead.

    Args:
        channels: C.
        frames: T.
        divisor: 1/divisor of the channels is shifted in each direction.
        causal: Channels read the previous frame only.
    """

    def __init__(
        self, channels: int, *, frames: int, divisor: int = 8, causal: bool = False
    ) -> None:
        super().__init__(frames=frames, look_back=1, look_ahead=int(not causal), causal=causal)
        # The shares of both directions have to fit into the channels.
        check_range(at_least=1 if causal else 2, **{"TSM divisor": divisor})
        share = channels // divisor
        if share == 0:
            raise OptionError(
                f"TSM with divisor {divisor} shifts nothing at a width of {channels} channels; "
                f"use a divisor of at most {channels}."
            )
        self.from_next = 0 if causal else share
        self.from_previous = share

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Shifts channels along time: (N, C, H, W) -> (N, C, H, W)."""
        return shift(
            x_NCHW, self.frames, from_next=self.from_next, from_previous=self.from_previous
        )

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Shifts the newest frames; the memory holds the shifted channels only."""
        share = self.from_previous
        return torch.cat([memory.delay(x_NCHW[:, :share].clone()), x_NCHW[:, share:]], 1)

    def extra_repr(self) -> str:
        """Options in the printed network."""
        return f"from_next={self.from_next}, from_previous={self.from_previous}"
