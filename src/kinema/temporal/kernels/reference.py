"""Reference backend: the operators as the authors' published code writes them.

It is the baseline of our measurements. The shift assigns slices to a tensor of zeros (TSM), a
depth-wise convolution is a conv1d on a permuted copy (TEA), a dynamic convolution has B*C groups
(TAM), and a gate is a product. Operators without published code take the nearest of these.

Letters: B clips, T frames, N = B*T, C channels, H, W, S = H*W, K taps.
"""

import torch
import torch.nn.functional as F

from kinema.temporal.kernels import graph


def mix(x_NCHW: torch.Tensor, weights_BTKC: torch.Tensor, frames: int, before: int) -> torch.Tensor:
    """See `dispatch.mix`."""
    if weights_BTKC.shape[1] > 1:  # no published code has kernels that differ by frame
        return graph.mix(x_NCHW, weights_BTKC, frames, before)
    taps = weights_BTKC.shape[2]
    weights_BKC = weights_BTKC.to(x_NCHW.dtype)[:, 0]
    if taps == 1:
        return x_NCHW * weights_BKC[:, 0, :, None, None]
    x_BTCS = torch.unflatten(x_NCHW.flatten(2), 0, (-1, frames))
    clips, _, channels, pixels = x_BTCS.shape
    if len(weights_BKC) == 1:
        rows = x_BTCS.permute(0, 3, 2, 1).reshape(clips * pixels, channels, frames)
        kernels = weights_BKC[0].t()[:, None]
        out = F.conv1d(rows, kernels, padding=before, groups=channels)[..., :frames]
        out_BSCT = out.reshape(clips, pixels, channels, frames)
        return out_BSCT.permute(0, 3, 2, 1).reshape(x_NCHW.shape)
    rows = x_BTCS.transpose(1, 2).reshape(1, clips * channels, frames, pixels)
    kernels = weights_BKC.transpose(1, 2).reshape(clips * channels, 1, taps, 1)
    out = F.conv2d(rows, kernels, padding=(before, 0), groups=clips * channels)[:, :, :frames]
    return out.reshape(clips, channels, frames, pixels).transpose(1, 2).reshape(x_NCHW.shape)


def shift(x_NCHW: torch.Tensor, frames: int, from_next: int, from_previous: int) -> torch.Tensor:
    """See `dispatch.shift`."""
    x_BTCHW = torch.unflatten(x_NCHW, 0, (-1, frames))
    out = torch.zeros_like(x_BTCHW)
    last = from_next + from_previous
    out[:, :-1, :from_next] = x_BTCHW[:, 1:, :from_next]
    out[:, 1:, from_next:last] = x_BTCHW[:, :-1, from_next:last]
    out[:, :, last:] = x_BTCHW[:, :, last:]
    return out.flatten(0, 1)


def spatial_mean(x_NCHW: torch.Tensor) -> torch.Tensor:
    """See `dispatch.spatial_mean`."""
    return F.adaptive_avg_pool2d(x_NCHW, 1).flatten(1)
