"""GSM: gate-shift module."""

import torch
from torch import nn

from kinema.errors import OptionError
from kinema.temporal.base import TemporalModule, register
from kinema.temporal.kernels.dense import conv_clip
from kinema.temporal.kernels.shift import shift
from kinema.temporal.memory import Memory, conv_step


class GateShift(TemporalModule):
    """Base class of GSM and GSF: splits frames into a gated part, which moves, and the rest.

    Args:
        channels: C, a multiple of 4.
        frames: T.
        look_back: See `TemporalModule`.
        look_ahead: See `TemporalModule`.
        causal: No frame looks ahead.
    """

    def __init__(
        self, channels: int, *, frames: int, look_back: int, look_ahead: int, causal: bool
    ) -> None:
        super().__init__(frames=frames, look_back=look_back, look_ahead=look_ahead, causal=causal)
        self.share = channels // 2
        self.norm = nn.BatchNorm2d(channels)
        self.gate_weight = nn.Parameter(torch.zeros(2, self.share, 3, 3, 3))
        self.gate_bias = nn.Parameter(torch.zeros(2))

    def parts(self, x_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The gated part, moved by a frame, and the rest of the frame: both (N, C, H, W)."""
        gates_N2HW = conv_clip(
            torch.relu(self.norm(x_NCHW)),
            self.gate_weight,
            self.frames,
            padding=(1, 1),
            groups=2,
            causal=self.causal,
        )
        gated_NCHW = self._gated(x_NCHW, gates_N2HW)
        moved_NCHW = shift(
            gated_NCHW,
            self.frames,
            from_next=0 if self.causal else self.share,
            from_previous=2 * self.share if self.causal else self.share,
        )
        return moved_NCHW, x_NCHW - gated_NCHW

    def parts_step(self, x_NCHW: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, torch.Tensor]:
        """The two parts for the newest frames; see `parts`."""
        normed_NCHW = torch.relu(self.norm(x_NCHW))
        gates_N2HW = conv_step(normed_NCHW, self.gate_weight, memory, padding=(1, 1), groups=2)
        gated_NCHW = self._gated(x_NCHW, gates_N2HW)
        return memory.delay(gated_NCHW), x_NCHW - gated_NCHW

    def _gated(self, x_NCHW: torch.Tensor, gates_N2HW: torch.Tensor) -> torch.Tensor:
        gates_N2HW = torch.tanh(gates_N2HW + self.gate_bias[:, None, None]).to(x_NCHW.dtype)
        return x_NCHW * gates_N2HW.repeat_interleave(self.share, 1)


def interleaved(out_NCHW: torch.Tensor) -> torch.Tensor:
    """Interleaves the two quarters of each half, channel by channel."""
    quarters_N22QHW = torch.unflatten(out_NCHW, 1, (2, 2, -1))
    return quarters_N22QHW.transpose(2, 3).flatten(1, 3)


@register("gsm", at="before_conv1")
class GSM(GateShift):
    """Gate-shift module (GSM: Sudhakaran et al., CVPR 2020, arXiv 1912.00381).

    A 3 x 3 x 3 convolution computes one gate for each half of the channels. The gated part of the
    first half moves from the next frame, that of the second half from the previous frame, and the
    rest stays. The two quarters of each half are then interleaved. The authors' code places it in
    Inception units only; the position in residual blocks is our choice.

    Causal: both halves read the previous frame, and the gates look back only.

    Weights: 27C + 2C + 2. Multiply-adds: 27C per pixel and frame. State when streaming (causal):
    the gated previous frame and two sums for each of the two gates; otherwise it looks two frames
    ahead.

    Args:
        channels: C, a multiple of 4.
        frames: T.
        causal: No frame looks ahead.
    """

    def __init__(self, channels: int, *, frames: int, causal: bool = False) -> None:
        if channels % 4:
            raise OptionError(f"GSM needs a multiple of 4 channels, got {channels}.")
        super().__init__(
            channels,
            frames=frames,
            look_back=3 if causal else 2,
            look_ahead=0 if causal else 2,
            causal=causal,
        )

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Gates, shifts and interleaves: (N, C, H, W) -> (N, C, H, W)."""
        moved_NCHW, rest_NCHW = self.parts(x_NCHW)
        return interleaved(moved_NCHW + rest_NCHW)

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Gates the newest frames and adds the gated part of the frames before them."""
        moved_NCHW, rest_NCHW = self.parts_step(x_NCHW, memory)
        return interleaved(moved_NCHW + rest_NCHW)
