"""Channel gate: the mean of every frame, and the product of a frame with factors per channel.

Letters: N frames, C channels, H, W, T frames of a clip.
"""

import torch

from kinema.temporal.kernels import dispatch


def spatial_mean(x_NCHW: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) -> (N, C): the mean of every frame, in float32 or float64.

    In half precision the difference between two frames would be lost to rounding.
    """
    backend = dispatch.backend_for(x_NCHW, 1, "spatial_mean")
    if backend is not None:
        return dispatch.spatial_mean(backend, x_NCHW)
    dtype = torch.promote_types(x_NCHW.dtype, torch.float32)
    return x_NCHW.mean((2, 3), dtype=dtype)


def gate_reference(x_NCHW: torch.Tensor, gate_NC: torch.Tensor) -> torch.Tensor:
    """Plain form of `gate`."""
    return x_NCHW * gate_NC.to(x_NCHW.dtype)[:, :, None, None]


def gate(x_NCHW: torch.Tensor, gate_NC: torch.Tensor) -> torch.Tensor:
    """Multiplies every channel of every frame by a factor."""
    backend = dispatch.backend_for(x_NCHW, 1, "gate")
    if backend is not None:
        return dispatch.mix(backend, x_NCHW, gate_NC[:, None, None], 1, before=0)
    return gate_reference(x_NCHW, gate_NC)
