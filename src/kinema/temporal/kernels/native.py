"""C backend: the kernels of native.c and attention.c, compiled on first use.

The machine's C compiler builds them for its own processor within a second, into the cache folder
(`KINEMA_CACHE`, by default `~/.cache/kinema`). Without a compiler, on systems other than Linux, or
with `KINEMA_NATIVE=0`, PyTorch's own operators run instead. Gradients are in dispatch.py.

Letters: B clips, T frames, N = B*T, C channels, H, W, S = H*W, K taps, P pairs, D channels.
"""

import contextlib
import contextvars
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

import torch

from kinema.system.cache_folder import cache_folder, check_private
from kinema.temporal.kernels.eager import runs_eagerly
from kinema.temporal.kernels.rows import row_stride, row_stride_of, rows_like

NAME: Final = "C"
# Operators that have a kernel; `mix` includes its gradient.
KERNELS = (
    "mix",
    "gate",
    "map_gate",
    "shift",
    "spatial_mean",
    "attend",
    "convolve_step",
    "adaptive_kernels",
)

_log = logging.getLogger(__name__)
_DISABLED = contextvars.ContextVar[frozenset[str]]("without", default=frozenset())

_SOURCES = ("native", "attention")
# -ffast-math lets the compiler reorder sums; infinities stay valid. Linking without -fopenmp binds
# the OpenMP functions to the library that PyTorch has loaded, so both share one pool of threads.
_COMPILE = ("-O3", "-march=native", "-ffast-math", "-fno-finite-math-only", "-fopenmp", "-fPIC")
_LINK = ("-shared", "-lm")
_SUFFIXES = {torch.float32: "f32", torch.bfloat16: "b16"}
_MAX_TAPS = 16
_ATTENTION_WIDTHS = (4, 8, 16, 32)
# LANES and ROWS of native.c.
_LANES, _ROWS = 16, 8
_LOG2_E = 1.4426950408889634
_OFF = "KINEMA_NATIVE=0 turns the C kernels off and hides this message."


@contextlib.contextmanager
def without(*kernels: str) -> Iterator[None]:
    """Turns single kernels off, as a baseline for measurements.

    Args:
        kernels: Names from `KERNELS`; all of them when none is given.
    """
    token = _DISABLED.set(frozenset(kernels or KERNELS))
    try:
        yield
    finally:
        _DISABLED.reset(token)


def available(device: torch.device) -> bool:
    """True if the kernels can be had; builds them on the first call."""
    return device.type == "cpu" and library() is not None


def takes(x_NCHW: torch.Tensor, taps: int = 1, kernel: str = "mix") -> bool:
    """True if the kernel supports this activation and its memory layout."""
    return (
        kernel not in _DISABLED.get()
        and x_NCHW.device.type == "cpu"
        and x_NCHW.dtype in _SUFFIXES
        and runs_eagerly(x_NCHW)
        and taps <= _MAX_TAPS
        and row_stride(x_NCHW) is not None
        and library() is not None
    )


def takes_attention(queries_PSD: torch.Tensor) -> bool:
    """True if `attend` has a kernel for these queries. It has no gradient."""
    return (
        "attend" not in _DISABLED.get()
        and queries_PSD.device.type == "cpu"
        and queries_PSD.dtype in _SUFFIXES
        and runs_eagerly(queries_PSD)
        and queries_PSD.shape[2] in _ATTENTION_WIDTHS
        and queries_PSD.numel() > 0
        and library() is not None
    )


def attend(queries_PSD: torch.Tensor, keys_PSD: torch.Tensor, *, scale: float) -> torch.Tensor:
    """softmax(queries keys^T * scale) keys for widths of 4 to 32, without storing the scores."""
    queries = queries_PSD.float().contiguous()
    keys_PDS = keys_PSD.float().transpose(1, 2).contiguous()
    out_PSD = torch.empty_like(queries)
    pairs, pixels, width = queries.shape
    _call("attend", queries, keys_PDS, out_PSD, pairs, pixels, width, scale * _LOG2_E)
    return out_PSD.to(queries_PSD.dtype)


def mix(x_NCHW: torch.Tensor, weights_BTKC: torch.Tensor, frames: int, before: int) -> torch.Tensor:
    """See `dispatch.KernelBackend`."""
    clips, pixels, channels = _sizes(x_NCHW, frames)
    weights = weights_BTKC.float().contiguous()
    out = rows_like(x_NCHW)
    _call(
        f"mix_{_SUFFIXES[x_NCHW.dtype]}",
        x_NCHW,
        row_stride_of(x_NCHW),
        out,
        weights,
        0 if weights.shape[0] == 1 else weights.stride(0),
        0 if weights.shape[1] == 1 else weights.stride(1),
        clips,
        frames,
        pixels,
        channels,
        weights.shape[2],
        before,
    )
    return out


def weight_grad(
    grad_NCHW: torch.Tensor, x_NCHW: torch.Tensor, taps: int, frames: int, before: int
) -> torch.Tensor:
    """See `dispatch.KernelBackend`; `grad_NCHW` is dense channels_last memory."""
    clips, pixels, channels = _sizes(x_NCHW, frames)
    out_BTKC = x_NCHW.new_empty((clips, frames, taps, channels), dtype=torch.float32)
    _call(
        f"mix_{_SUFFIXES[x_NCHW.dtype]}_weight_grad",
        grad_NCHW,
        x_NCHW,
        row_stride_of(x_NCHW),
        out_BTKC,
        clips,
        frames,
        pixels,
        channels,
        taps,
        before,
    )
    return out_BTKC


def shift(
    x_NCHW: torch.Tensor, frames: int, from_next: int, from_previous: int, *, reverse: bool = False
) -> torch.Tensor:
    """See `dispatch.KernelBackend`."""
    clips, pixels, channels = _sizes(x_NCHW, frames)
    out = rows_like(x_NCHW)
    _call(
        "shift",
        x_NCHW,
        row_stride_of(x_NCHW),
        out,
        x_NCHW.element_size(),
        clips,
        frames,
        pixels,
        channels,
        from_next,
        from_previous,
        -1 if reverse else 1,
    )
    return out


def spatial_mean(x_NCHW: torch.Tensor) -> torch.Tensor:
    """See `dispatch.KernelBackend`."""
    total, pixels, channels = _sizes(x_NCHW, 1)
    mean_NC = x_NCHW.new_empty((total, channels), dtype=torch.float32)
    name = f"mix_{_SUFFIXES[x_NCHW.dtype]}_mean"
    _call(name, x_NCHW, row_stride_of(x_NCHW), mean_NC, total, pixels, channels)
    return mean_NC


def convolve_step(
    x_NCHW: torch.Tensor,
    past_NCHW: Sequence[torch.Tensor],
    weights_BKC: torch.Tensor,
    kept_NCHW: torch.Tensor,
    gate_NC: torch.Tensor | None,
) -> torch.Tensor:
    """Convolves the newest frame of each stream with the frames before it; see native.c.

    Args:
        x_NCHW: One frame of each stream.
        past_NCHW: The K-1 frames before it, oldest first, in dense channels_last memory.
        weights_BKC: Taps; B is N, or 1 for all streams.
        kept_NCHW: Output: the frame times the gate, for the next steps.
        gate_NC: Factors of the frame's channels before the convolution.
    """
    total, pixels, channels = _sizes(x_NCHW, 1)
    weights = weights_BKC.float().contiguous()
    gate = None if gate_NC is None else gate_NC.float().contiguous()
    out = rows_like(x_NCHW)
    _call(
        f"mix_{_SUFFIXES[x_NCHW.dtype]}_step",
        x_NCHW,
        row_stride_of(x_NCHW),
        (ctypes.c_void_p * len(past_NCHW))(*[past.data_ptr() for past in past_NCHW]),
        kept_NCHW,
        out,
        weights,
        0 if weights.shape[0] == 1 else weights.stride(0),
        gate,
        total,
        pixels,
        channels,
        weights.shape[1],
    )
    return out


def adaptive_kernels(
    pooled_NWC: torch.Tensor, first_HW: torch.Tensor, bias_H: torch.Tensor, last_KH: torch.Tensor
) -> torch.Tensor:
    """TAM's kernels, (N, K, C) float32, from the means of W frames, (N, W, C) float32."""
    batch, window, channels = pooled_NWC.shape
    taps, hidden = last_KH.shape
    kernels_NKC = pooled_NWC.new_empty((batch, taps, channels))
    _call(
        "adaptive_kernels",
        pooled_NWC.contiguous(),
        batch,
        window,
        channels,
        first_HW.float().contiguous(),
        bias_H.float(),
        hidden,
        last_KH.float().contiguous(),
        taps,
        kernels_NKC,
    )
    return kernels_NKC


def takes_map_gate(differences: int, x_NCHW: torch.Tensor, *others: torch.Tensor) -> bool:
    """True if `map_gate` has a kernel for this activation. It has no gradient."""
    fits = x_NCHW.shape[1] % _LANES == 0 and _ROWS % max(1, differences) == 0
    in_floats = all(tensor.dtype == torch.float32 for tensor in (x_NCHW, *others))
    return fits and in_floats and takes(x_NCHW, kernel="map_gate")


def map_gate(
    x_NCHW: torch.Tensor, motion_MDHW: torch.Tensor, weight_CD: torch.Tensor, bias_C: torch.Tensor
) -> torch.Tensor:
    """See `kernels.gate.map_gate`; M is a multiple of N."""
    total, pixels, channels = _sizes(x_NCHW, 1)
    differences, width = motion_MDHW.shape[0] // total, motion_MDHW.shape[1]
    out = rows_like(x_NCHW)
    _call(
        "map_gate",
        x_NCHW,
        row_stride_of(x_NCHW),
        out,
        motion_MDHW.contiguous(memory_format=torch.channels_last),
        weight_CD.t().contiguous(),
        bias_C.contiguous(),
        differences,
        total * pixels,
        width,
        channels,
        0.5 / differences,
    )
    return out


def _sizes(x_NCHW: torch.Tensor, frames: int) -> tuple[int, int, int]:
    """Number of clips, of pixels in a frame, and of channels."""
    total, channels, height, width = x_NCHW.shape
    return total // frames, height * width, channels


def _call(
    name: str, *arguments: torch.Tensor | ctypes.Array[ctypes.c_void_p] | float | None
) -> None:
    native = library()
    assert native is not None
    passed = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments]
    getattr(native, name)(*passed)


def _declare(native: ctypes.CDLL) -> ctypes.CDLL:
    """Declares the argument types, so that plain numbers and addresses can be passed."""
    address, number = ctypes.c_void_p, ctypes.c_long
    mean = (address, number, address, *(number,) * 3)
    native.shift.argtypes = (address, number, address, *(number,) * 8)
    native.attend.argtypes = (*(address,) * 3, *(number,) * 3, ctypes.c_float)
    for suffix in _SUFFIXES.values():
        operator = getattr(native, f"mix_{suffix}")
        operator.argtypes = (address, number, address, address, *(number,) * 8)
        operator = getattr(native, f"mix_{suffix}_weight_grad")
        operator.argtypes = (address, address, number, address, *(number,) * 6)
        getattr(native, f"mix_{suffix}_mean").argtypes = mean
        operator = getattr(native, f"mix_{suffix}_step")
        operator.argtypes = (address, number, *(address,) * 4, number, address, *(number,) * 4)
    native.map_gate.argtypes = (
        address, number, *(address,) * 4, *(number,) * 4, ctypes.c_float
    )  # fmt: skip
    native.adaptive_kernels.argtypes = (
        address, *(number,) * 3, address, address, number, address, number, address
    )  # fmt: skip
    return native


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they cannot be built. Says once why."""
    if os.environ.get("KINEMA_NATIVE", "1") == "0" or platform.system() != "Linux":
        return None
    name = os.environ.get("CC") or "gcc"
    compiler = _command(name)
    if compiler is None:
        warn_slower(f"No C compiler ({name}) found", f"Install gcc, or set CC; {_OFF}")
        return None
    try:
        return _loaded(compiler)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        last = (str(reason).strip() or "no reason given").splitlines()[-1]
        fix = f"Set CC to a working compiler; {_OFF}"
        warn_slower(f"The C kernels could not be built ({last})", fix)
        return None


def _command(name: str) -> tuple[str, ...] | None:
    """Splits CC, which may have arguments ("ccache gcc"); None if there is no such program."""
    try:
        program, *arguments = [name] if shutil.which(name) else shlex.split(name)
    except ValueError:  # it is blank, or a quotation mark is missing
        return None
    found = shutil.which(program)
    return None if found is None else (found, *arguments)


def warn_slower(problem: str, fix: str) -> None:
    """Logs that kernels are missing, and what to do."""
    _log.warning(
        "%s: temporal modules run on PyTorch's own operators, with equal results but slower. %s",
        problem,
        fix,
    )


def _loaded(compiler: Sequence[str]) -> ctypes.CDLL:
    """The library from the cache folder, or one built for this process if that is unusable."""
    try:
        return _declare(ctypes.CDLL(str(_built(compiler, cache_folder()))))
    except (OSError, AttributeError) as error:  # AttributeError: the library lacks a function
        _log.info("The C kernels are built for this process only (%s).", error)
    with tempfile.TemporaryDirectory() as folder:
        return _declare(ctypes.CDLL(str(_built(compiler, Path(folder)))))


def _built(compiler: Sequence[str], folder: Path) -> Path:
    """The library for this source, compiler and processor; builds it if the folder has none."""
    here = resources.files("kinema.temporal.kernels")
    sources = {name: (here / f"{name}.c").read_text("utf-8") for name in _SOURCES}
    version = _run(*compiler, "--version")
    key = "\n".join((*sources.values(), version, *compiler[1:], *_COMPILE, *_LINK, processor()))
    stem = f"native-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    for found in folder.glob(f"{stem}-*.so"):
        if _intact(found):
            return found
        found.unlink(missing_ok=True)
    # Built aside and renamed: two processes may build at once, and neither loads half a file.
    with tempfile.TemporaryDirectory(dir=folder) as work:
        built = Path(work) / "native.so"
        objects = []
        for name, text in sources.items():
            file = Path(work) / f"{name}.c"
            file.write_text(text, encoding="utf-8")
            objects.append(f"{file}.o")
            _run(*compiler, *_COMPILE, "-c", str(file), "-o", objects[-1])
        _run(*compiler, *objects, *_LINK, "-o", str(built))
        built.chmod(0o700)
        target = folder / f"{stem}-{_digest(built)}.so"
        os.replace(built, target)
    return target


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _intact(file: Path) -> bool:
    """True if the library is ours and has the digest of its name; loading another runs it."""
    try:
        check_private(file)
        return file.stem.rpartition("-")[2] == _digest(file)
    except OSError:
        return False


def processor() -> str:
    """Name and instruction sets of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features")
    return "\n".join(line for line in lines if line.startswith(wanted))
