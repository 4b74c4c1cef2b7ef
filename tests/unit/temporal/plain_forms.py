"""Temporal convolutions in plain loops and grouped convolutions, to compare the kernels with.

Letters: B clips, T frames, N = B*T, C channels, H, W, S = H*W, K taps.
"""

import torch
import torch.nn.functional as F

from kinema.temporal.kernels.layout import time_padding


def depthwise_reference(
    x_NCHW: torch.Tensor, weight_C1K1: torch.Tensor, frames: int, *, causal: bool = False
) -> torch.Tensor:
    """Plain form of `depthwise`: a sum of zero-padded, weighted neighbors."""
    x_BTCHW = torch.unflatten(x_NCHW, 0, (-1, frames))
    taps = weight_C1K1.shape[2]
    out = torch.zeros_like(x_BTCHW)
    for tap in range(taps):
        offset = tap - time_padding(taps, causal=causal)[0]
        weight_C11 = weight_C1K1[:, 0, tap].unsqueeze(-1)
        for t in range(max(0, -offset), min(frames, frames - offset)):
            out[:, t] += weight_C11 * x_BTCHW[:, t + offset]
    return out.flatten(0, 1)


def dynamic_reference(
    x_NCHW: torch.Tensor, kernels_BCTK: torch.Tensor, frames: int, *, causal: bool = False
) -> torch.Tensor:
    """Plain form of `dynamic`: one convolution with B*C groups, as in TAM's code.

    All frames of a clip must have the same kernels.
    """
    x_BTCS = torch.unflatten(x_NCHW.flatten(2), 0, (-1, frames))
    clips, _, channels, pixels = x_BTCS.shape
    taps = kernels_BCTK.shape[3]
    rows = x_BTCS.transpose(1, 2).reshape(1, clips * channels, frames, pixels)
    weight = kernels_BCTK[:, :, 0].reshape(clips * channels, 1, taps, 1)
    before, _ = time_padding(taps, causal=causal)
    out = F.conv2d(rows, weight, padding=(before, 0), groups=clips * channels)[:, :, :frames]
    return out.reshape(clips, channels, frames, pixels).transpose(1, 2).reshape(x_NCHW.shape)
