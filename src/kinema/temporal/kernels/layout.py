"""Views of folded frames with time on a separate axis, without a copy.

Letters: B clips, T frames, N = B*T, C channels, H, W, S = H*W.
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
