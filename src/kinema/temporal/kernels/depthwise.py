"""Depth-wise temporal convolution: one kernel of K taps per channel.

Letters: B clips, T frames, N = B*T, C channels, H, W, S = H*W, K taps.
"""

import torch

from kinema.temporal.kernels import dispatch
from kinema.temporal.kernels.dense import conv_time
from kinema.temporal.kernels.layout import time_padding


def depthwise(
    x_NCHW: torch.Tensor, weight_C1K1: torch.Tensor, frames: int, *, causal: bool = False
) -> torch.Tensor:
    """Convolves every channel along time with zero padding; tap K//2 reads the frame itself.

    One pass over the activation where a backend takes it. The plain form is one depth-wise (K, 1)
    conv2d on the (B, C, T, H*W) view, which copies nothing for channels_last memory: measured at a
    fifth to a tenth of the time of a conv1d on a permuted copy.

    Args:
        x_NCHW: Folded frames.
        weight_C1K1: Kernels; tap 0 reads the earliest frame (cross-correlation).
        frames: T.
        causal: The last tap reads the frame itself, so no frame looks ahead.
    """
    channels, _, taps, _ = weight_C1K1.shape
    x_NCHW = _autocast(x_NCHW)
    backend = dispatch.backend_for(x_NCHW, taps)
    if backend is not None:
        weights_11KC = weight_C1K1.flatten(1).t()[None, None]
        before, _ = time_padding(taps, causal=causal)
        return dispatch.mix(backend, x_NCHW, weights_11KC, frames, before=before)
    return conv_time(x_NCHW, weight_C1K1, frames, groups=channels, causal=causal)


def _autocast(x_NCHW: torch.Tensor) -> torch.Tensor:
    """Casts to the dtype that autocast gives a convolution."""
    device = x_NCHW.device.type
    if not torch.amp.is_autocast_available(device) or x_NCHW.dtype == torch.float64:
        return x_NCHW
    if not torch.is_autocast_enabled(device):
        return x_NCHW
    return x_NCHW.to(torch.get_autocast_dtype(device))
