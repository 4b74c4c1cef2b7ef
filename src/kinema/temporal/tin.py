"""TIN: learned fractional shift of the temporal interlacing network."""

import torch
from torch import nn

from kinema.errors import check_range
from kinema.temporal.base import TemporalModule, register
from kinema.temporal.kernels.dynamic import dynamic
from kinema.temporal.kernels.gate import spatial_mean
from kinema.temporal.tam import resampled

# Initial bias of the offset layer: an offset of 4 (sigmoid(0.5108) - 0.5) = 0.5 frames, as in the
# authors' code.
FIRST_OFFSET = 0.5108
# Offsets are in (-2, 2), so five taps can express every fractional shift.
TAPS = 5


@register("tin", at="before_conv1")
class TIN(TemporalModule):
    """Temporal interlacing (TIN: Shao et al., AAAI 2020, arXiv 2001.06499).

    The first quarter of the channels is split into four groups, which move by the learned
    fractional offsets (o1, o2, -o1, -o2) with linear interpolation and zeros at the ends, and are
    weighted per frame. Offsets and weights come from the pooled clip. The offset net is T wide, so
    its weights depend on the number of frames. The authors' compiled CUDA operator is written here
    as a dynamic convolution of five taps.

    Weights: 9f + T^2 + 3T + 5 with f = C/4. Multiply-adds: 5 for each value of the f channels.
    State when streaming: there is no causal form, because the offsets depend on the whole clip.

    Args:
        channels: C.
        frames: T.
        causal: Not supported; True raises OptionError.
    """

    frames_in_weights = True
    has_causal_form = False

    def __init__(self, channels: int, *, frames: int, causal: bool = False) -> None:
        super().__init__(frames=frames, look_back=None, look_ahead=None, causal=causal)
        check_range(at_least=16, **{"channels of TIN": channels})
        self.group = channels // 16
        width = 4 * self.group
        self.offset_conv = nn.Conv1d(width, 1, 3, padding=1)
        self.offset_net = _offset_net(frames)
        self.weight_conv = nn.Conv1d(width, 2, 3, padding=1)
        assert self.weight_conv.bias is not None
        nn.init.zeros_(self.weight_conv.bias)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Moves the first quarter of the channels: (N, C, H, W) -> (N, C, H, W)."""
        moving_NCHW = x_NCHW[:, : 4 * self.group]
        means_NC = spatial_mean(moving_NCHW).to(x_NCHW.dtype)
        pooled_BTC = torch.unflatten(means_NC, 0, (-1, self.frames))
        pooled_BCT = pooled_BTC.transpose(1, 2)
        raw_B2 = self.offset_net(self.offset_conv(pooled_BCT).squeeze(1))
        offset_B2 = 4 * (torch.sigmoid(raw_B2) - 0.5)
        weight_B2T = 2 * torch.sigmoid(self.weight_conv(pooled_BCT))
        offset_B4 = torch.cat([offset_B2, -offset_B2], 1)
        weight_B4T = torch.cat([weight_B2T, weight_B2T], 1)
        tap_K = torch.arange(TAPS, device=x_NCHW.device) - TAPS // 2
        # Linear interpolation: a tap's weight falls from 1 to 0 within one frame of the offset.
        kernels_B4K = torch.relu(1 - (tap_K + offset_B4.unsqueeze(2)).abs())
        kernels_B4TK = weight_B4T.unsqueeze(3) * kernels_B4K.unsqueeze(2)
        kernels_BCTK = kernels_B4TK.repeat_interleave(self.group, 1).to(x_NCHW.dtype)
        moved_NCHW = dynamic(moving_NCHW, kernels_BCTK, self.frames)
        return torch.cat([moved_NCHW, x_NCHW[:, 4 * self.group :]], 1)

    def uncounted_macs(self, x_NCHW: torch.Tensor) -> int:
        """Multiply-adds of the interpolation, five per moving value."""
        return TAPS * x_NCHW[:, : 4 * self.group].numel()

    def interpolate_frames(self, frames: int) -> None:
        """Resamples the offset net linearly along time and keeps sums over frames."""
        self.offset_net = resampled(self.offset_net, _offset_net(frames)).train(self.training)
        self.frames = frames


def _offset_net(frames: int) -> nn.Sequential:
    last = nn.Linear(frames, 2)
    nn.init.constant_(last.bias, FIRST_OFFSET)
    return nn.Sequential(nn.Linear(frames, frames), nn.ReLU(inplace=True), last)
