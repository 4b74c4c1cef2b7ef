"""The operators of native.c, compiled on first use; where that fails, the plain forms serve.

The library is built by the machine's C compiler for the machine's own processor, in a second, and
kept in the cache folder (`KINEMA_CACHE`, by default `~/.cache/kinema`). Without a compiler, on
other systems than Linux, or with `KINEMA_NATIVE=0`, everything works in PyTorch's own operators.

Letters: B clips, T frames, N = B*T, C channels, H, W, S = H*W, K taps, P pairs, D channels.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

import torch

_log = logging.getLogger(__name__)

# -ffast-math lets sums be reordered; infinities still count. No -fopenmp when linking: the OpenMP
# functions are then those of the library that PyTorch has loaded, with its threads.
_COMPILE = (
    "-O3",
    "-march=native",
    "-ffast-math",
    "-fno-finite-math-only",
    "-fopenmp",
    "-fPIC",
    "-c",
)
_LINK = ("-shared", "-lm")
_SUFFIXES = {torch.float32: "f32", torch.bfloat16: "b16"}
_MAX_TAPS = 16
_ATTENTION_WIDTHS = (4, 8, 16, 32)
_LOG2_E = 1.4426950408889634


def takes(x_NCHW: torch.Tensor) -> bool:
    """Whether the native operators can work on this activation as it lies in memory."""
    return (
        x_NCHW.device.type == "cpu"
        and x_NCHW.dtype in _SUFFIXES
        and type(x_NCHW) in (torch.Tensor, torch.nn.Parameter)
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and row_stride(x_NCHW) is not None
        and library() is not None
    )


def row_stride(x_NCHW: torch.Tensor) -> int | None:
    """Values from one pixel's channels to the next pixel's; None when pixels do not lie in a row.

    For channels_last memory it is C, for a slice of its channels more.
    """
    frames, channels, height, width = x_NCHW.shape
    if x_NCHW.numel() == 0 or (channels > 1 and x_NCHW.stride(1) != 1):
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


def mix(
    x_NCHW: torch.Tensor, weights_BTKC: torch.Tensor, frames: int, *, before: int
) -> torch.Tensor:
    """out[b,t] = sum over k of weights[b,t,k] * x[b,t+k-before], in one pass.

    Args:
        x_NCHW: An activation that `takes` accepts.
        weights_BTKC: float32; B and T may be 1 when all clips or frames share them.
        frames: T.
        before: The tap of the frame itself.
    """
    if torch.is_grad_enabled() and (x_NCHW.requires_grad or weights_BTKC.requires_grad):
        mixed: torch.Tensor = _Mix.apply(x_NCHW, weights_BTKC, frames, before)
        return mixed
    return _mix(x_NCHW, weights_BTKC, frames, before)


def shift(x_NCHW: torch.Tensor, frames: int, *, from_next: int, from_previous: int) -> torch.Tensor:
    """The leading channels from the next frame, those after them from the previous one."""
    if torch.is_grad_enabled() and x_NCHW.requires_grad:
        moved: torch.Tensor = _Shift.apply(x_NCHW, frames, from_next, from_previous)
        return moved
    return _shift(x_NCHW, frames, from_next, from_previous)


def spatial_mean(x_NCHW: torch.Tensor) -> torch.Tensor:
    """(N, C) float32 means over the pixels of every frame."""
    if torch.is_grad_enabled() and x_NCHW.requires_grad:
        mean: torch.Tensor = _Mean.apply(x_NCHW)
        return mean
    return _mean(x_NCHW)


def takes_attention(queries_PSD: torch.Tensor) -> bool:
    """Whether `attend` has a kernel for these queries; it has no gradient."""
    return (
        queries_PSD.device.type == "cpu"
        and queries_PSD.dtype in _SUFFIXES
        and queries_PSD.shape[2] in _ATTENTION_WIDTHS
        and queries_PSD.numel() > 0
        and type(queries_PSD) is torch.Tensor
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and library() is not None
    )


def attend(queries_PSD: torch.Tensor, keys_PSD: torch.Tensor, *, scale: float) -> torch.Tensor:
    """softmax(queries keys^T * scale) keys, for widths of 4 to 32; no score is stored."""
    queries = queries_PSD.float().contiguous()
    keys_PDS = keys_PSD.float().transpose(1, 2).contiguous()
    out_PSD = torch.empty_like(queries)
    pairs, pixels, width = queries.shape
    _call(
        "attend",
        queries,
        keys_PDS,
        out_PSD,
        pairs,
        pixels,
        width,
        ctypes.c_float(scale * _LOG2_E),
    )
    return out_PSD.to(queries_PSD.dtype)


def _mix(x: torch.Tensor, weights: torch.Tensor, frames: int, before: int) -> torch.Tensor:
    total, channels, height, width = x.shape
    clips, taps = total // frames, weights.shape[2]
    assert taps <= _MAX_TAPS
    weights = weights.float().contiguous()
    out = _empty_like(x)
    _call(
        f"mix_{_SUFFIXES[x.dtype]}",
        x,
        row_stride(x),
        out,
        weights,
        0 if weights.shape[0] == 1 else weights.stride(0),
        0 if weights.shape[1] == 1 else weights.stride(1),
        clips,
        frames,
        height * width,
        channels,
        taps,
        before,
    )
    return out


def _shift(x: torch.Tensor, frames: int, from_next: int, from_previous: int) -> torch.Tensor:
    total, channels, height, width = x.shape
    out = _empty_like(x)
    _call(
        "shift",
        x,
        row_stride(x),
        out,
        x.element_size(),
        total // frames,
        frames,
        height * width,
        channels,
        from_next,
        from_previous,
    )
    return out


def _mean(x: torch.Tensor) -> torch.Tensor:
    total, channels, height, width = x.shape
    mean = x.new_empty((total, channels), dtype=torch.float32)
    name = f"mix_{_SUFFIXES[x.dtype]}_mean"
    _call(name, x, row_stride(x), mean, total, height * width, channels)
    return mean


def _weight_grad(
    grad: torch.Tensor, x: torch.Tensor, shape: tuple[int, ...], frames: int, before: int
) -> torch.Tensor:
    total, channels, height, width = x.shape
    clips, taps = total // frames, shape[2]
    out = x.new_empty((clips, frames, taps, channels), dtype=torch.float32)
    _call(
        f"mix_{_SUFFIXES[x.dtype]}_weight_grad",
        grad,
        x,
        row_stride(x),
        out,
        clips,
        frames,
        height * width,
        channels,
        taps,
        before,
    )
    return out.sum_to_size(shape)


def _empty_like(x: torch.Tensor) -> torch.Tensor:
    return torch.empty(x.shape, dtype=x.dtype, memory_format=torch.channels_last)


def _dense(grad: torch.Tensor) -> torch.Tensor:
    return grad.contiguous(memory_format=torch.channels_last)


def _call(name: str, *arguments: torch.Tensor | int | float | ctypes.c_float | None) -> None:
    native = library()
    assert native is not None
    getattr(native, name)(
        *(
            ctypes.c_void_p(a.data_ptr())
            if isinstance(a, torch.Tensor)
            else a
            if isinstance(a, ctypes.c_float)
            else ctypes.c_long(int(a or 0))
            for a in arguments
        )
    )


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weights, frames, before):  # type: ignore[no-untyped-def]  # autograd's own signature
        ctx.save_for_backward(x, weights)
        ctx.frames, ctx.before = frames, before
        return _mix(x, weights, frames, before)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]  # autograd's own signature
        x, weights = ctx.saved_tensors
        frames, before = ctx.frames, ctx.before
        grad, grad_x, grad_weights = _dense(grad), None, None
        if ctx.needs_input_grad[0]:
            back = weights.shape[2] - 1 - before
            grad_x = _mix(grad, _turned(weights, frames, back), frames, back)
        if ctx.needs_input_grad[1]:
            grad_weights = _weight_grad(grad, x, weights.shape, frames, before)
            grad_weights = grad_weights.to(weights.dtype)
        return grad_x, grad_weights, None, None


def _turned(weights_BTKC: torch.Tensor, frames: int, before: int) -> torch.Tensor:
    """The weights of the transposed operator: tap j of frame t is tap K-1-j of frame t+j-before."""
    flipped = weights_BTKC.flip(2)
    if flipped.shape[1] == 1:
        return flipped
    taps = flipped.shape[2]
    padded = torch.nn.functional.pad(flipped, (0, 0, 0, 0, before, taps - 1 - before))
    return torch.stack([padded[:, j : j + frames, j] for j in range(taps)], 2)


class _Shift(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, frames, from_next, from_previous):  # type: ignore[no-untyped-def]  # as above
        ctx.sizes = frames, from_next, from_previous
        return _shift(x, frames, from_next, from_previous)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]  # as above
        frames, from_next, from_previous = ctx.sizes
        channels = grad.shape[1]
        # What came from the next frame goes back to it: the two shares change their sense.
        taps = grad.new_zeros((1, 1, 3, channels), dtype=torch.float32)
        taps[..., 0, :from_next] = 1
        taps[..., 2, from_next : from_next + from_previous] = 1
        taps[..., 1, from_next + from_previous :] = 1
        return _mix(_dense(grad), taps, frames, 1), None, None, None


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]  # as above
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return _mean(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]  # as above
        pixels = ctx.shape[2] * ctx.shape[3]
        return (grad / pixels).to(ctx.dtype)[:, :, None, None].expand(ctx.shape)


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled operators; None where they cannot be had."""
    if os.environ.get("KINEMA_NATIVE", "1") == "0" or platform.system() != "Linux":
        return None
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if compiler is None:
        _log.info("No C compiler (gcc) found: temporal modules use PyTorch's own operators.")
        return None
    try:
        return ctypes.CDLL(str(_built(compiler)))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        _log.warning(
            "The native operators could not be built, temporal modules use PyTorch's own (%s). "
            "KINEMA_NATIVE=0 turns them off.",
            str(reason).strip().splitlines()[-1] if str(reason).strip() else "no reason given",
        )
        return None


def cache_folder() -> Path:
    """Where compiled operators and measured choices of this machine are kept."""
    own = os.environ.get("KINEMA_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kinema"


def _built(compiler: str) -> Path:
    """The library for this source, compiler and processor, built when it is not in the cache."""
    source = (resources.files("kinema.temporal.kernels") / "native.c").read_text("utf-8")
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True
    ).stdout
    key = "\n".join((source, version, *_COMPILE, *_LINK, processor()))
    folder = cache_folder()
    target = folder / f"native-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        file, built = Path(work) / "native.c", Path(work) / "native.so"
        file.write_text(source, encoding="utf-8")
        commands = (
            [compiler, *_COMPILE, str(file), "-o", str(file.with_suffix(".o"))],
            [compiler, str(file.with_suffix(".o")), *_LINK, "-o", str(built)],
        )
        for command in commands:
            subprocess.run(command, capture_output=True, text=True, check=True)
        os.replace(built, target)
    return target


def processor() -> str:
    """The name and the instruction sets of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features")
    return "\n".join(line for line in lines if line.startswith(wanted))
