"""Slow forms of the temporal modules, written from the papers' equations, frame by frame.

Every oracle takes clips (B, T, C, H, W) and the module's tensors by name, and shares no code with
`kinema`. Without running statistics among the tensors a norm uses those of the batch, as in
training. Causal forms read earlier frames only; what compares two frames acts on the later one.

Letters: B clips, T frames, C channels, H, W, D reduced channels, K taps, S = H*W, O outputs.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]


def frame(x_BT: Tensor, t: int) -> Tensor:
    """Frame t of every clip; zeros outside the clip."""
    return x_BT[:, t] if 0 <= t < x_BT.shape[1] else torch.zeros_like(x_BT[:, 0])


def each_frame(x_BT: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([function(x_BT[:, t]) for t in range(x_BT.shape[1])], 1)


def conv(x_BTCHW: Tensor, weight: Tensor, bias: Tensor | None = None, **how: int) -> Tensor:
    return each_frame(x_BTCHW, lambda x: F.conv2d(x, weight, bias, **how))


def each_channel_3x3(x_BTCHW: Tensor, weight_C133: Tensor) -> Tensor:
    return conv(x_BTCHW, weight_C133, padding=1, groups=len(weight_C133))


def norm(x_BTC: Tensor, w: Weights, name: str) -> Tensor:
    """Batch norm of axis 2, whatever axes follow."""
    mean, var = w.get(f"{name}.running_mean"), w.get(f"{name}.running_var")
    if mean is None or var is None:
        others = [axis for axis in range(x_BTC.ndim) if axis != 2]
        mean, var = x_BTC.mean(others), x_BTC.var(others, correction=0)
    scale = w[f"{name}.weight"] / torch.sqrt(var + 1e-5)
    shape = (-1, *(1,) * (x_BTC.ndim - 3))
    return x_BTC * scale.reshape(shape) + (w[f"{name}.bias"] - mean * scale).reshape(shape)


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)


def part(w: Weights, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): w[name] for name in w if name.startswith(prefix)}


def neighbours(x_BT: Tensor, taps: int, *, causal: bool) -> list[list[Tensor]]:
    """For each t the frames under a kernel: t-K//2 .. t+K//2, or t-K+1 .. t."""
    start = 1 - taps if causal else -(taps // 2)
    times = range(x_BT.shape[1])
    return [[frame(x_BT, t + start + k) for k in range(taps)] for t in times]


def over_time(
    x_BT: Tensor, taps: int, term: Callable[[int, Tensor], Tensor], *, causal: bool
) -> Tensor:
    """y_t = sum over k of term(k, x_{t + k - K//2}); tap 0 reads the earliest frame."""
    rows = neighbours(x_BT, taps, causal=causal)
    return torch.stack([sum(term(k, x) for k, x in enumerate(row)) for row in rows], 1)


def depthwise(x_BTCHW: Tensor, weight_C1K1: Tensor, *, causal: bool = False) -> Tensor:
    """TEINet eq. 4: Y_{c,t} = sum_i V_{c,i} U_{c,t+i}."""
    kernel_KC11 = weight_C1K1[:, 0].transpose(0, 1).unsqueeze(-1)
    taps = len(kernel_KC11)
    return over_time(x_BTCHW, taps, lambda k, x: kernel_KC11[k] * x, causal=causal)


def dense(x_BTCHW: Tensor, weight_OCKhw: Tensor, *, causal: bool = False, **how: int) -> Tensor:
    """A K x h x w convolution as K 2D convolutions."""
    return over_time(
        x_BTCHW,
        weight_OCKhw.shape[2],
        lambda k, x: F.conv2d(x, weight_OCKhw[:, :, k], **how),
        causal=causal,
    )


def moved(x_BTCHW: Tensor, offset_C: Sequence[int]) -> Tensor:
    """Channel c of frame t is channel c of frame t + offset_C[c]."""
    times = range(x_BTCHW.shape[1])
    return torch.stack(
        [torch.stack([frame(x_BTCHW, t + o)[:, c] for c, o in enumerate(offset_C)], 1) for t in times],
        1,
    )


def offsets(init: str, channels: int, *, divisor: int = 8, causal: bool = False) -> list[int]:
    """The frame that each channel reads under an initial kernel, relative to its own.

    Part shift is eq. 2 of TEA's supplement; TSM's online form has past to present in the first slot.
    """
    share = {"half_shift": channels // 2, "quarter_shift": channels // 4}
    few = share.get(init, channels // divisor)
    if init == "identity":
        return [0] * channels
    if init == "half_shift":
        return [0 if causal else 1] * few + [-1] * (channels - few)
    if init == "quarter_shift":
        return [-1] * few + [0] * (channels - 2 * few) + [0 if causal else 1] * few
    return ([-1] if causal else [1] * few + [-1]) * few if False else _part(channels, few, causal)


def _part(channels: int, few: int, causal: bool) -> list[int]:
    if causal:
        return [-1] * few + [0] * (channels - few)
    return [1] * few + [-1] * few + [0] * (channels - 2 * few)
