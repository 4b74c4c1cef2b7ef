"""Gates: the mean of every frame, and the product of a frame with factors per channel or pixel.

Letters: N frames, C channels, H, W, T frames of a clip, D channels of motion, M = N or 2N motions.
"""

import functools
import operator
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from kinema.temporal.kernels import dispatch, native


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


def map_gate(
    x_NCHW: torch.Tensor, motion_MDHW: torch.Tensor, weight_CD: torch.Tensor, bias_C: torch.Tensor
) -> torch.Tensor:
    """x + x * (mean over the motions of sigmoid(2 (weight motion + bias)) - 1/2); see TDN's TDM.

    Args:
        x_NCHW: Frames.
        motion_MDHW: One motion of every frame, then the next motion of every frame.
        weight_CD: From channels of motion to half of the gate.
        bias_C: Its bias.
    """
    inputs = (x_NCHW, motion_MDHW, weight_CD, bias_C)
    differences = motion_MDHW.shape[0] // max(1, x_NCHW.shape[0])
    wants_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    is_plain = wants_gradient or dispatch.uses_reference_backend()
    if not is_plain and native.takes_map_gate(differences, *inputs):
        return native.map_gate(*inputs)
    both_MCHW = F.conv2d(motion_MDHW, weight_CD[:, :, None, None], bias_C)
    return gated_by_halves(x_NCHW, torch.unflatten(both_MCHW, 0, (differences, -1)).unbind(0))


def gated_by_halves(x_NCHW: torch.Tensor, halves: Sequence[torch.Tensor]) -> torch.Tensor:
    """x + x * (mean of the sigmoids - 1/2), where sigmoid(2h) - 1/2 is tanh(h) / 2."""
    gates = functools.reduce(operator.add, map(torch.tanh, halves))
    return torch.addcmul(x_NCHW, x_NCHW, gates, value=0.5 / len(halves))
