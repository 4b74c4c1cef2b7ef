"""Dense temporal convolutions, which mix channels: K x 1 x 1 and K x h x w kernels.

Letters: B clips, T frames, N = B*T, C channels in, O channels out, H, W, K taps, h x w window.
"""

import torch
import torch.nn.functional as F

from kinema.temporal.kernels.layout import clip_view, fold_clips, fold_view, time_padding, time_view


def conv_time(
    x_NCHW: torch.Tensor,
    weight_OCK1: torch.Tensor,
    frames: int,
    *,
    groups: int = 1,
    causal: bool = False,
) -> torch.Tensor:
    """K x 1 x 1 convolution with zero padding in time: (N, C, H, W) -> (N, O, H, W)."""
    before, _ = time_padding(weight_OCK1.shape[2], causal=causal)
    x_BCTS = time_view(x_NCHW, frames)
    out_BOTS = F.conv2d(x_BCTS, weight_OCK1, padding=(before, 0), groups=groups)
    return fold_view(out_BOTS[:, :, :frames], *x_NCHW.shape[2:])


def conv_clip(
    x_NCHW: torch.Tensor,
    weight_OCKhw: torch.Tensor,
    frames: int,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
    causal: bool = False,
) -> torch.Tensor:
    """K x h x w convolution with stride 1 in time: (N, C, H, W) -> (N, O, H/stride, W/stride)."""
    before, _ = time_padding(weight_OCKhw.shape[2], causal=causal)
    out_BOTHW = F.conv3d(
        clip_view(x_NCHW, frames),
        weight_OCKhw,
        stride=(1, *stride),
        padding=(before, *padding),
        groups=groups,
    )
    return fold_clips(out_BOTHW[:, :, :frames])
