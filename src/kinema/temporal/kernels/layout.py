"""Views of folded frames with time on a separate axis, without a copy, and pairs of neighbors.

Letters: B clips, T frames, N = B*T, C channels, H, W, S = H*W, ... any further axes.
"""

import torch


def time_view(x_NCHW: torch.Tensor, frames: int) -> torch.Tensor:
    """(N, C, H, W) -> (B, C, T, S), a view for contiguous and for channels_last input.

    A channels_last input gives a channels_last view, on which operators along T access memory in
    order.
    """
    x_BTSC = torch.unflatten(x_NCHW.permute(0, 2, 3, 1), 0, (-1, frames)).flatten(2, 3)
    return x_BTSC.permute(0, 3, 1, 2)


def fold_view(x_BCTS: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(B, C, T, S) -> (N, C, H, W), the inverse of `time_view`; a view for channels_last."""
    x_NHWC = torch.unflatten(x_BCTS.permute(0, 2, 3, 1).flatten(0, 1), 1, (height, width))
    return x_NHWC.permute(0, 3, 1, 2)


def clip_view(x_NCHW: torch.Tensor, frames: int) -> torch.Tensor:
    """(N, C, H, W) -> (B, C, T, H, W), a view; channels_last memory becomes channels_last_3d."""
    return torch.unflatten(x_NCHW, 0, (-1, frames)).transpose(1, 2)


def fold_clips(x_BCTHW: torch.Tensor) -> torch.Tensor:
    """(B, C, T, H, W) -> (N, C, H, W), the inverse of `clip_view`; a view for channels_last_3d."""
    return x_BCTHW.transpose(1, 2).flatten(0, 1)


def time_padding(taps: int, *, causal: bool) -> tuple[int, int]:
    """Zero frames before and after a clip for a convolution of `taps` taps.

    The middle tap reads the frame itself; with `causal` the last tap does.
    """
    return (taps - 1, 0) if causal else (taps // 2, taps // 2)


def pairs(x_N: torch.Tensor, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames 0..T-2 and frames 1..T-1 of every clip: (N, ...) -> twice (B, T-1, ...), views."""
    x_BT = torch.unflatten(x_N, 0, (-1, frames))
    return x_BT[:, :-1], x_BT[:, 1:]


def place_pairs(pairs_BP: torch.Tensor, *, causal: bool, alone: float = 0) -> torch.Tensor:
    """(B, T-1, ...) -> (N, ...): each pair's value at its earlier frame, `alone` at the last frame.

    With `causal` each pair's value is at its later frame, with `alone` at the first frame.
    """
    alone_B1 = pairs_BP.new_full((pairs_BP.shape[0], 1, *pairs_BP.shape[2:]), alone)
    parts = (alone_B1, pairs_BP) if causal else (pairs_BP, alone_B1)
    return torch.cat(parts, 1).flatten(0, 1)
