"""How an activation lies in memory, and whether a kernel of ours may read it there.

Letters: N frames, C channels, H, W.
"""

import torch
from torch.autograd import forward_ad


def row_stride(x_NCHW: torch.Tensor) -> int | None:
    """Values from one pixel's channels to the next pixel's; None when pixels do not lie in a row.

    For channels_last memory it is C, for a slice of its channels more.
    """
    frames, channels, height, width = x_NCHW.shape
    if x_NCHW.numel() == 0:
        return None
    if x_NCHW.is_contiguous(memory_format=torch.channels_last):  # the usual case, asked often
        return channels
    if channels > 1 and x_NCHW.stride(1) != 1:
        return None
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


def in_memory(x: torch.Tensor) -> bool:
    """Whether the values are what lies at the tensor's address, and nobody needs to see operators.

    Not so while a graph is captured, under function transforms and forward-mode derivatives, for
    tensors of other classes and under modes that watch every operator.
    """
    return (
        not torch.compiler.is_compiling()
        and type(x) in (torch.Tensor, torch.nn.Parameter)
        and torch._C._get_tracing_state() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and forward_ad._current_level < 0
    )


def rows_like(x_NCHW: torch.Tensor) -> torch.Tensor:
    """An empty activation of the same shape and dtype in channels_last memory."""
    if x_NCHW.is_contiguous(memory_format=torch.channels_last):
        return torch.empty_like(x_NCHW, memory_format=torch.channels_last)
    return torch.empty(
        x_NCHW.shape, dtype=x_NCHW.dtype, device=x_NCHW.device, memory_format=torch.channels_last
    )


def row_stride_of(x_NCHW: torch.Tensor) -> int:
    """`row_stride` of an activation that is known to lie in rows."""
    stride = row_stride(x_NCHW)
    assert stride is not None
    return stride
