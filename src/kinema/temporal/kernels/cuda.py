"""Triton backend: the operators on CUDA, each with one read and one write of the activation.

dispatch.py imports it for activations on CUDA if Triton is installed; where a kernel does not
compile, PyTorch's own operators run instead. Activations are as in native.c: rows of C values, `ld`
values apart. float32, bfloat16 and float16 are computed in float32.

The rule for choosing these kernels and the sizes of their tiles follow from counted memory traffic.
They are not measured on a device yet.

Letters: B clips, T frames, N = B*T, C channels, H, W, S = H*W, K taps, P parts of a frame.
"""

import functools
import os
import subprocess
from typing import Final

import torch
import triton
import triton.language as tl
from triton.errors import TritonError

from kinema.system.compiler_cache import keep_compilers_private
from kinema.temporal.kernels.eager import runs_eagerly
from kinema.temporal.kernels.native import warn_slower
from kinema.temporal.kernels.rows import row_stride, row_stride_of, rows_like

NAME: Final = "Triton"

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Smaller activations: a launch takes longer than the memory traffic of PyTorch's operators.
LEAST_VALUES = 1 << 18
# Values in a tile, of which each of 128 threads moves 16, and the largest number of channels in it.
_TILE = 2048
_WIDEST = 128
# With fewer programs than this each frame gets its own, and the second-level cache serves the taps.
_ENOUGH_PROGRAMS = 2048
# Pixels that one program of the weight gradient adds up.
_PART = 256
_MAX_TAPS = 16
# Fused multiply-adds are allowed; without an explicit choice Triton 3.9 warns.
_OPTIONS = {"enable_fp_fusion": True}


@triton.jit(do_not_specialize=["frames", "pixels", "before", "span"])  # type: ignore[untyped-decorator]  # Triton has no types
def _mix_kernel(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917 - a kernel's
    x_ptr,
    w_ptr,
    out_ptr,
    ld,
    wb,
    wt,
    frames,
    pixels,
    channels,
    before,
    span,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One tile of one clip over `span` frames, so that a tile stays in the cache for K frames."""
    program = tl.program_id(0).to(tl.int64)
    spans = tl.cdiv(frames, span)
    first = (program % spans) * span
    program //= spans
    parts = tl.cdiv(channels, COLUMNS)
    c = (program % parts) * COLUMNS + tl.arange(0, COLUMNS)
    program //= parts
    tiles = tl.cdiv(pixels, ROWS)
    s = (program % tiles) * ROWS + tl.arange(0, ROWS)
    b = program // tiles
    inside = (s < pixels)[:, None] & (c < channels)[None, :]
    for t in range(first, tl.minimum(first + span, frames)):
        total = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
        for k in tl.static_range(K):
            source = t + k - before
            if (source >= 0) & (source < frames):
                row = (b * frames + source) * pixels + s
                x = tl.load(x_ptr + row[:, None] * ld + c[None, :], mask=inside, other=0.0)
                at = w_ptr + b * wb + t * wt + k * channels + c
                w = tl.load(at, mask=c < channels, other=0.0)
                total += w[None, :] * x.to(tl.float32)
        row = (b * frames + t) * pixels + s
        to = out_ptr + row[:, None] * channels + c[None, :]
        tl.store(to, total.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["frames", "pixels", "before"])  # type: ignore[untyped-decorator]  # Triton has no types
def _weight_grad_kernel(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917 - a kernel's
    grad_ptr,
    x_ptr,
    out_ptr,
    ld,
    frames,
    pixels,
    channels,
    before,
    K: tl.constexpr,
    PART: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """out[n,p,k,c] = sum over the pixels s of part p of grad[n,s,c] * x[n+k-before,s,c]."""
    program = tl.program_id(0).to(tl.int64)
    k = program % K
    program //= K
    parts = tl.cdiv(channels, COLUMNS)
    c = (program % parts) * COLUMNS + tl.arange(0, COLUMNS)
    program //= parts
    pieces = tl.cdiv(pixels, PART)
    p = program % pieces
    n = program // pieces
    source = n % frames + k - before
    total = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    if (source >= 0) & (source < frames):
        for start in range(0, PART, ROWS):
            s = p * PART + start + tl.arange(0, ROWS)
            inside = (s < pixels)[:, None] & (c < channels)[None, :]
            row, other_row = n * pixels + s, (n + k - before) * pixels + s
            g = tl.load(grad_ptr + row[:, None] * channels + c[None, :], mask=inside, other=0.0)
            x = tl.load(x_ptr + other_row[:, None] * ld + c[None, :], mask=inside, other=0.0)
            total += g.to(tl.float32) * x.to(tl.float32)
    to = out_ptr + ((n * pieces + p) * K + k) * channels + c
    tl.store(to, tl.sum(total, 0), mask=c < channels)


@triton.jit(do_not_specialize=["frames", "pixels", "sign"])  # type: ignore[untyped-decorator]  # Triton has no types
def _shift_kernel(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917 - a kernel's
    x_ptr,
    out_ptr,
    ld,
    frames,
    pixels,
    channels,
    ahead,
    moved,
    sign,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One tile of one frame. Each value is read by the one load whose mask includes it."""
    program = tl.program_id(0).to(tl.int64)
    parts = tl.cdiv(channels, COLUMNS)
    c = (program % parts) * COLUMNS + tl.arange(0, COLUMNS)
    program //= parts
    tiles = tl.cdiv(pixels, ROWS)
    s = (program % tiles) * ROWS + tl.arange(0, ROWS)
    n = program // tiles
    t = n % frames
    row = n * pixels + s
    here = x_ptr + row[:, None] * ld + c[None, :]
    frame = pixels * ld * sign
    rows = (s < pixels)[:, None]
    staying = (c >= moved) & (c < channels)
    values = tl.load(here, mask=rows & staying[None, :], other=0.0)
    if (t + sign >= 0) & (t + sign < frames):
        from_next = c < ahead
        values += tl.load(here + frame, mask=rows & from_next[None, :], other=0.0)
    if (t - sign >= 0) & (t - sign < frames):
        from_last = (c >= ahead) & (c < moved)
        values += tl.load(here - frame, mask=rows & from_last[None, :], other=0.0)
    to = out_ptr + row[:, None] * channels + c[None, :]
    tl.store(to, values, mask=rows & (c < channels)[None, :])


def available(device: torch.device) -> bool:
    """True if the kernels run on this device."""
    return works(device, torch.float32)


def takes(x_NCHW: torch.Tensor, taps: int, kernel: str = "mix") -> bool:
    """True if the kernels support this activation and are faster than plain PyTorch."""
    return (
        x_NCHW.device.type == "cuda"
        and x_NCHW.dtype in _DTYPES
        and runs_eagerly(x_NCHW)
        and wins(x_NCHW, taps)
        and row_stride(x_NCHW) is not None
        and works(x_NCHW.device, x_NCHW.dtype)
    )


def wins(x_NCHW: torch.Tensor, taps: int) -> bool:
    """True if a kernel is faster than PyTorch's operators when an output reads `taps` frames.

    Small activations are not worth a launch. Without a gradient, PyTorch computes the product with
    a gate and the mean in one pass as well.
    """
    large = x_NCHW.numel() >= LEAST_VALUES
    return large and taps <= _MAX_TAPS and (taps > 1 or torch.is_grad_enabled())


@functools.cache
def works(device: torch.device, dtype: torch.dtype) -> bool:
    """True if the kernels compile and run for this device and dtype; tries them once."""
    if os.environ.get("KINEMA_NATIVE", "1") == "0":
        return False
    keep_compilers_private()
    x = torch.zeros((2, 16, 1, 1), device=device, dtype=dtype)
    try:
        shift(x, 2, 4, 4)
        mix(x, x.new_ones((1, 1, 3, 16)), 2, 1)
        weight_grad(x, x, 3, 2, 1)
    except (TritonError, RuntimeError, ValueError, OSError, subprocess.SubprocessError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        warn_slower(
            f"Triton's kernels do not work for {dtype} on {device} ({reason[-1]})",
            "KINEMA_NATIVE=0 turns the kernels off and hides this message.",
        )
        return False
    return True


def mix(x_NCHW: torch.Tensor, weights_BTKC: torch.Tensor, frames: int, before: int) -> torch.Tensor:
    """See `dispatch.KernelBackend`."""
    total, channels, height, width = x_NCHW.shape
    weights = weights_BTKC.float().contiguous()
    out = rows_like(x_NCHW)
    rows, columns = _tile(channels)
    tiles = total // frames * -(-height * width // rows) * -(-channels // columns)
    span = frames if tiles >= _ENOUGH_PROGRAMS else 1
    with torch.cuda.device_of(x_NCHW):  # type: ignore[no-untyped-call]  # it has no types
        _mix_kernel[(tiles * -(-frames // span),)](
            x_NCHW,
            weights,
            out,
            row_stride_of(x_NCHW),
            0 if weights.shape[0] == 1 else weights.stride(0),
            0 if weights.shape[1] == 1 else weights.stride(1),
            frames,
            height * width,
            channels,
            before,
            span,
            K=weights.shape[2],
            ROWS=rows,
            COLUMNS=columns,
            **_OPTIONS,
        )
    return out


def weight_grad(
    grad_NCHW: torch.Tensor, x_NCHW: torch.Tensor, taps: int, frames: int, before: int
) -> torch.Tensor:
    """See `dispatch.KernelBackend`; `grad_NCHW` is dense channels_last memory."""
    total, channels, height, width = x_NCHW.shape
    rows, columns = _tile(channels)
    rows = min(rows, _PART)
    parts = -(-height * width // _PART)
    sums_NPKC = x_NCHW.new_empty((total, parts, taps, channels), dtype=torch.float32)
    with torch.cuda.device_of(x_NCHW):  # type: ignore[no-untyped-call]  # it has no types
        _weight_grad_kernel[(total * parts * -(-channels // columns) * taps,)](
            grad_NCHW,
            x_NCHW,
            sums_NPKC,
            row_stride_of(x_NCHW),
            frames,
            height * width,
            channels,
            before,
            K=taps,
            PART=_PART,
            ROWS=rows,
            COLUMNS=columns,
            **_OPTIONS,
        )
    return torch.unflatten(sums_NPKC.sum(1), 0, (-1, frames))


def shift(
    x_NCHW: torch.Tensor, frames: int, from_next: int, from_previous: int, *, reverse: bool = False
) -> torch.Tensor:
    """See `dispatch.KernelBackend`."""
    total, channels, height, width = x_NCHW.shape
    out = rows_like(x_NCHW)
    rows, columns = _tile(channels)
    with torch.cuda.device_of(x_NCHW):  # type: ignore[no-untyped-call]  # it has no types
        _shift_kernel[(total * -(-height * width // rows) * -(-channels // columns),)](
            x_NCHW,
            out,
            row_stride_of(x_NCHW),
            frames,
            height * width,
            channels,
            from_next,
            from_next + from_previous,
            -1 if reverse else 1,
            ROWS=rows,
            COLUMNS=columns,
            **_OPTIONS,
        )
    return out


def spatial_mean(x_NCHW: torch.Tensor) -> torch.Tensor:
    """See `dispatch.KernelBackend`; PyTorch's own reduction reads the activation once as well."""
    return x_NCHW.mean((2, 3), dtype=torch.float32)


def _tile(channels: int) -> tuple[int, int]:
    """Pixels and channels of a tile, powers of two."""
    columns = min(_WIDEST, 1 << (channels - 1).bit_length())
    return _TILE // columns, columns
