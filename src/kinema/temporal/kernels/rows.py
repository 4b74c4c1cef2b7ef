"""Memory layout of activations: rows of C values, one per pixel, at a constant distance.

Letters: N frames, C channels, H, W.
"""

import torch


def row_stride(x_NCHW: torch.Tensor) -> int | None:
    """Distance between the rows of neighboring pixels in values; None if it is not constant.

    It is C for channels_last memory and more for a slice of its channels.
    """
    frames, channels, height, width = x_NCHW.shape
    if x_NCHW.numel() == 0:
        return None
    if x_NCHW.is_contiguous(memory_format=torch.channels_last):  # common, and cheap to check
        return channels
    if channels > 1 and x_NCHW.stride(1) != 1:
        return None
    # The stride of each axis must be the number of pixels below it times one common row stride.
    # The stride of an axis of length 1 is arbitrary.
    stride = None
    for length, pixels, given in (
        (width, 1, x_NCHW.stride(3)),
        (height, width, x_NCHW.stride(2)),
        (frames, width * height, x_NCHW.stride(0)),
    ):
        if length == 1:
            continue
        if stride is None:
            stride = given // pixels
        if given != stride * pixels:
            return None
    stride = channels if stride is None else stride
    return stride if stride >= channels else None


def row_stride_of(x_NCHW: torch.Tensor) -> int:
    """`row_stride` of an activation that a backend has accepted."""
    stride = row_stride(x_NCHW)
    assert stride is not None
    return stride


def rows_like(x_NCHW: torch.Tensor) -> torch.Tensor:
    """An empty activation of the same shape and dtype in channels_last memory."""
    if x_NCHW.is_contiguous(memory_format=torch.channels_last):
        return torch.empty_like(x_NCHW, memory_format=torch.channels_last)
    return torch.empty(
        x_NCHW.shape, dtype=x_NCHW.dtype, device=x_NCHW.device, memory_format=torch.channels_last
    )
