"""Graph backend: the operators for exported graphs, in a few nodes that runtimes execute fast.

Frames move along the folded axis N, on which they are contiguous in every memory layout, so no
runtime inserts a layout conversion. Frames that come from another clip are multiplied by zero.
In OpenVINO TSM-ResNet-50 takes 1.1 times as long as the plain network this way, and 1.8 times with
slices of a (B, C, T, S) view.

Letters: B clips, T frames, N = B*T, C channels, H, W, K taps.
"""

import torch


def mix(x_NCHW: torch.Tensor, weights_BTKC: torch.Tensor, frames: int, before: int) -> torch.Tensor:
    """One multiply-add per tap; see `dispatch.mix`."""
    clips, taps = x_NCHW.shape[0] // frames, weights_BTKC.shape[2]
    inside_TK = torch.stack([_inside(x_NCHW, frames, k - before) for k in range(taps)], 1)
    masked_BTKC = weights_BTKC.to(x_NCHW.dtype) * inside_TK[None, :, :, None]
    weights_NKC = masked_BTKC.expand(clips, frames, -1, -1).flatten(0, 1)
    out_NCHW = x_NCHW * weights_NKC[:, before, :, None, None]
    for tap in range(taps):
        offset = tap - before
        if 0 < abs(offset) < frames:
            out_NCHW = out_NCHW + _moved(x_NCHW, offset) * weights_NKC[:, tap, :, None, None]
    return out_NCHW


def shift(x_NCHW: torch.Tensor, frames: int, from_next: int, from_previous: int) -> torch.Tensor:
    """Splits the channels, moves two parts and joins them; see `dispatch.shift`."""
    clips, rest = x_NCHW.shape[0] // frames, x_NCHW.shape[1] - from_next - from_previous
    parts = []
    sizes = [from_next, from_previous, rest]
    for part_NCHW, step in zip(torch.split(x_NCHW, sizes, 1), (1, -1, 0), strict=True):
        if step == 0:
            parts.append(part_NCHW)
        elif part_NCHW.shape[1] > 0:
            inside_N = _inside(x_NCHW, frames, step).repeat(clips)
            parts.append(_moved(part_NCHW, step) * inside_N[:, None, None, None])
    return torch.cat(parts, 1)


def spatial_mean(x_NCHW: torch.Tensor) -> torch.Tensor:
    """See `dispatch.spatial_mean`."""
    return x_NCHW.mean((2, 3), dtype=torch.promote_types(x_NCHW.dtype, torch.float32))


def _moved(x_NCHW: torch.Tensor, offset: int) -> torch.Tensor:
    """Frame n + offset at place n, wrapping around at the ends."""
    return torch.cat([x_NCHW[offset:], x_NCHW[:offset]])


def _inside(x_NCHW: torch.Tensor, frames: int, offset: int) -> torch.Tensor:
    """(T,): 1 where frame t + offset is inside the clip, otherwise 0."""
    source_T = torch.arange(frames, device=x_NCHW.device) + offset
    return ((source_T >= 0) & (source_T < frames)).to(x_NCHW.dtype)
