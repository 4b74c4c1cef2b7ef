"""Dynamic temporal convolution: kernels that differ by clip and channel (TAM).

Letters: B clips, T frames, N = B*T, C channels, H, W, K taps.
"""

import torch
import torch.nn.functional as F

from kinema.temporal.kernels import dispatch
from kinema.temporal.kernels.layout import time_padding


def dynamic(
    x_NCHW: torch.Tensor, kernels_BCTK: torch.Tensor, frames: int, *, causal: bool = False
) -> torch.Tensor:
    """Convolves every channel of every clip with its own kernel and zero padding.

    One pass over the activation where a backend takes it. The plain form is K shifted
    multiply-adds: unlike a convolution with B*C groups they need no permuted copy and do not fix
    the batch size of an exported graph.

    Args:
        x_NCHW: Folded frames.
        kernels_BCTK: Kernels; T is the number of frames, or 1 when all frames share one kernel.
            Tap 0 reads the earliest frame.
        frames: T.
        causal: The last tap reads the frame itself.
    """
    taps = kernels_BCTK.shape[3]
    before, _ = time_padding(taps, causal=causal)
    backend = dispatch.backend_for(x_NCHW, taps)
    if backend is not None:
        weights_BTKC = kernels_BCTK.permute(0, 2, 3, 1)
        return dispatch.mix(backend, x_NCHW, weights_BTKC, frames, before=before)
    x_BTCHW = torch.unflatten(x_NCHW, 0, (-1, frames))
    kernels_KBTC11 = kernels_BCTK.to(x_NCHW.dtype).permute(3, 0, 2, 1)[..., None, None]
    out_BTCHW = x_BTCHW * kernels_KBTC11[before]
    for tap in range(taps):
        offset = tap - before
        if offset == 0 or abs(offset) >= frames:
            continue
        kernel_BTC11 = kernels_KBTC11[tap]
        if offset < 0:
            moved = F.pad(x_BTCHW[:, :offset], (0, 0) * 3 + (-offset, 0))
        else:
            moved = F.pad(x_BTCHW[:, offset:], (0, 0) * 3 + (0, offset))
        out_BTCHW = out_BTCHW + kernel_BTC11 * moved
    return out_BTCHW.flatten(0, 1)
