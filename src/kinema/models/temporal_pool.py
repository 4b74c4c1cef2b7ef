"""Temporal pool of TSM's code: halves the frames in front of res3.

Letters: B clips, T frames, N = B*T, C channels, H, W.
"""

import torch
import torch.nn.functional as F
from torch import nn

from kinema.temporal.kernels.layout import fold_view, time_view

# Stage in front of which the frames are halved, and frames of the clip per frame from there on.
STAGE = 3
STRIDE = 2
TAPS = 3


class TemporalMaxPool(nn.Module):
    """Maximum of three frames, every second frame: (N, C, H, W) -> (N/2, C, H, W).

    Option `temporal_pool` of the authors' code of TSM (Lin et al., ICCV 2019, arXiv 1811.08383),
    which the paper does not describe. It has no weights and no causal form.

    Args:
        frames: T, even.
    """

    look_back = look_ahead = TAPS // 2
    frames_in_weights = False

    def __init__(self, *, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Pools the frames of each clip."""
        x_BCTS = time_view(x_NCHW, self.frames)
        out_BCTS = F.max_pool2d(x_BCTS, (TAPS, 1), stride=(STRIDE, 1), padding=(TAPS // 2, 0))
        return fold_view(out_BCTS, *x_NCHW.shape[2:])

    def extra_repr(self) -> str:
        """Frames in the printed network."""
        return f"frames={self.frames}"
