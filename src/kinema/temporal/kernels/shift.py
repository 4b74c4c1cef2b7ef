"""The temporal shift of channels.

Letters: B clips, T frames, N = B*T, C channels, H, W, S = H*W.
"""

import torch
import torch.nn.functional as F

from kinema.temporal.kernels import dispatch
from kinema.temporal.kernels.layout import fold_view, time_view


def shift(x_NCHW: torch.Tensor, frames: int, *, from_next: int, from_previous: int) -> torch.Tensor:
    """Moves the leading channels by one frame; zeros enter at the ends of the clip.

    One pass over the activation where a backend takes it. The plain form pads and concatenates
    once: it keeps channels_last memory, makes no permuted copy, and exports without scattered
    writes.

    Args:
        x_NCHW: Folded frames.
        frames: T.
        from_next: Number of leading channels that read the next frame.
        from_previous: Number of channels after these that read the previous frame.
    """
    backend = dispatch.backend_for(x_NCHW, 3, "shift")
    if backend is not None:
        shares = {"from_next": from_next, "from_previous": from_previous}
        return dispatch.shift(backend, x_NCHW, frames, **shares)
    x_BCTS = time_view(x_NCHW, frames)
    last = from_next + from_previous
    parts = []
    if from_next:
        parts.append(F.pad(x_BCTS[:, :from_next, 1:], (0, 0, 0, 1)))
    if from_previous:
        parts.append(F.pad(x_BCTS[:, from_next:last, :-1], (0, 0, 1, 0)))
    parts.append(x_BCTS[:, last:])
    return fold_view(torch.cat(parts, dim=1), *x_NCHW.shape[2:])
