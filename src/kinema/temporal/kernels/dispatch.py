"""Dispatches temporal operators to a backend (C, Triton, PyTorch) and defines their gradients.

Two backends have kernels of their own for channels_last activations: compiled C on the CPU
(native.py) and Triton on CUDA (cuda.py). Two are written in PyTorch's operators: graph.py for
exported graphs, and reference.py, which has the operators as in the authors' code. Where no backend
takes an activation, the caller (depthwise.py, dynamic.py, gate.py, shift.py) has a plain PyTorch
form.

The kernels are PyTorch operators (`torch.ops.kinema.mix`, `shift`, `spatial_mean`) with gradients.
They are called through PyTorch's dispatcher only where a gradient is needed. It adds 9 us to each
call, measured as 5 % of a stream's step of ME-MobileNetV2 at 112 pixels.

Letters: B clips, T frames, N = B*T, C channels, H, W, K taps.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F

from kinema.errors import InputShapeError
from kinema.temporal.kernels import graph, native, reference
from kinema.temporal.kernels.rows import rows_like

BackendName = Literal["C", "Triton", "PyTorch"]
Operator = Callable[..., torch.Tensor]

_REFERENCE = contextvars.ContextVar("reference_backend", default=False)


class Backend(Protocol):
    """Operators along time. They trust their arguments."""

    def mix(
        self, x_NCHW: torch.Tensor, weights_BTKC: torch.Tensor, frames: int, before: int
    ) -> torch.Tensor:
        """See the function `mix`."""

    def shift(
        self, x_NCHW: torch.Tensor, frames: int, from_next: int, from_previous: int
    ) -> torch.Tensor:
        """See the function `shift`."""

    def spatial_mean(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """See the function `spatial_mean`."""


class KernelBackend(Backend, Protocol):
    """Kernels that autograd cannot look into, with what their gradients are made of."""

    @property
    def NAME(self) -> BackendName:  # noqa: N802 - a constant of the module
        """Name for users."""

    def available(self, device: torch.device) -> bool:
        """True if the kernels run on this device; builds or tries them first."""

    def takes(self, x_NCHW: torch.Tensor, taps: int, kernel: str) -> bool:
        """True if the kernel supports this activation and is faster than plain PyTorch."""

    def weight_grad(
        self, grad_NCHW: torch.Tensor, x_NCHW: torch.Tensor, taps: int, frames: int, before: int
    ) -> torch.Tensor:
        """(B, T, K, C) float32: gradient of `mix` by weights that no clip or frame shares."""

    def shift(
        self,
        x_NCHW: torch.Tensor,
        frames: int,
        from_next: int,
        from_previous: int,
        *,
        reverse: bool = False,
    ) -> torch.Tensor:
        """See the function `shift`; `reverse` exchanges the next and the previous frame."""


def backend_for(x_NCHW: torch.Tensor, taps: int, kernel: str = "mix") -> Backend | None:
    """The backend for this activation; None where the caller's plain form is the best.

    Args:
        x_NCHW: Any activation.
        taps: Number of frames that an output frame reads.
        kernel: Name of the operator; see `native.KERNELS`.
    """
    if uses_reference_backend():
        return reference
    if torch.compiler.is_exporting():
        return graph
    backend = _backend_on(x_NCHW.device.type)
    return backend if backend is not None and backend.takes(x_NCHW, taps, kernel) else None


def backend_name(device: torch.device | str) -> BackendName:
    """Names the backend that runs temporal modules on this device.

    Builds the C kernels or tries the Triton kernels if this has not been done yet.
    """
    device = torch.device(device)
    backend = _backend_on(device.type)
    return backend.NAME if backend is not None and backend.available(device) else "PyTorch"


@contextlib.contextmanager
def reference_backend() -> Iterator[None]:
    """Runs the operators as the authors' code writes them, as a baseline for measurements."""
    token = _REFERENCE.set(True)
    try:
        yield
    finally:
        _REFERENCE.reset(token)


def uses_reference_backend() -> bool:
    """True inside `reference_backend`."""
    return _REFERENCE.get()


def mix(
    backend: Backend, x_NCHW: torch.Tensor, weights_BTKC: torch.Tensor, frames: int, *, before: int
) -> torch.Tensor:
    """out[b,t] = sum over k of weights[b,t,k] * x[b,t+k-before], in one pass.

    Args:
        backend: Result of `backend_for`.
        x_NCHW: Folded frames.
        weights_BTKC: B and T may be 1 when all clips or frames share the weights.
        frames: T.
        before: Index of the tap that reads the frame itself.

    Raises:
        InputShapeError: the frames are not whole clips, or the weights do not fit.
    """
    clips, channels = _clips(x_NCHW, frames), x_NCHW.shape[1]
    given = tuple(weights_BTKC.shape)
    if given[0] not in (1, clips) or given[1] not in (1, frames) or given[3] != channels:
        raise InputShapeError(
            f"Weights for {given[0]} clips of {given[1]} frames with {given[3]} channels do not "
            f"fit {clips} clips of {frames} frames with {channels} channels."
        )
    wanted = _needs_gradient(backend, x_NCHW, weights_BTKC)
    operator: Operator = _mix if wanted else backend.mix
    return operator(x_NCHW, weights_BTKC, frames, before)


def shift(
    backend: Backend, x_NCHW: torch.Tensor, frames: int, *, from_next: int, from_previous: int
) -> torch.Tensor:
    """Reads the leading channels from the next frame, those after them from the previous one.

    Raises:
        InputShapeError: the frames are not whole clips.
    """
    _clips(x_NCHW, frames)
    if _needs_gradient(backend, x_NCHW):
        shifted: torch.Tensor = _shift(x_NCHW, frames, from_next, from_previous, False)
        return shifted
    return backend.shift(x_NCHW, frames, from_next, from_previous)


def spatial_mean(backend: Backend, x_NCHW: torch.Tensor) -> torch.Tensor:
    """(N, C) float32 means over the pixels of every frame."""
    operator: Operator = _spatial_mean if _needs_gradient(backend, x_NCHW) else backend.spatial_mean
    return operator(x_NCHW)


def _needs_gradient(backend: Backend, *inputs: torch.Tensor) -> bool:
    """True if a gradient is wanted that autograd cannot derive from PyTorch's operators."""
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    return wanted and backend is not reference and backend is not graph


def _clips(x_NCHW: torch.Tensor, frames: int) -> int:
    clips = x_NCHW.shape[0] // frames
    if x_NCHW.shape[0] % frames:
        raise InputShapeError(
            f"Folded frames must be whole clips of {frames}, got {x_NCHW.shape[0]} frames."
        )
    return clips


def _backend_on(device: str) -> KernelBackend | None:
    if device == "cpu":
        return native
    return _triton() if device == "cuda" else None


@functools.cache
def _triton() -> KernelBackend | None:
    try:
        from kinema.temporal.kernels import cuda
    except ImportError as error:
        fix = "Install Triton (pip install triton) for the kernels on CUDA."
        native.warn_slower(f"No Triton ({error})", fix)
        return None
    return cuda


def _kernels_for(x_NCHW: torch.Tensor) -> KernelBackend:
    backend = _backend_on(x_NCHW.device.type)
    assert backend is not None
    return backend


# The operators with gradients. Each gradient is again made of these operators, so it can be
# differentiated a second time.


@torch.library.custom_op("kinema::mix", mutates_args=())
def _mix(x: torch.Tensor, weights: torch.Tensor, frames: int, before: int) -> torch.Tensor:
    return _kernels_for(x).mix(x, weights, frames, before)


@torch.library.custom_op("kinema::mix_weight_grad", mutates_args=())
def _weight_grad(
    grad: torch.Tensor, x: torch.Tensor, taps: int, frames: int, before: int
) -> torch.Tensor:
    return _kernels_for(x).weight_grad(grad, x, taps, frames, before)


@torch.library.custom_op("kinema::shift", mutates_args=())
def _shift(
    x: torch.Tensor, frames: int, from_next: int, from_previous: int, reverse: bool
) -> torch.Tensor:
    return _kernels_for(x).shift(x, frames, from_next, from_previous, reverse=reverse)


@torch.library.custom_op("kinema::spatial_mean", mutates_args=())
def _spatial_mean(x: torch.Tensor) -> torch.Tensor:
    return _kernels_for(x).spatial_mean(x)


def _save_mix(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    *tensors, ctx.frames, ctx.before = inputs
    ctx.save_for_backward(*tensors)


def _mix_backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    x, weights = ctx.saved_tensors
    grad, taps = _dense(grad), weights.shape[2]
    grad_x, grad_weights = None, None
    if ctx.needs_input_grad[0]:
        back = taps - 1 - ctx.before
        grad_x = _mix(grad, _transposed(weights, ctx.frames, back), ctx.frames, back)
    if ctx.needs_input_grad[1]:
        # Weights that clips or frames share get the sum of the single gradients.
        single = _weight_grad(grad, x, taps, ctx.frames, ctx.before)
        grad_weights = single.sum_to_size(weights.shape).to(weights.dtype)
    return grad_x, grad_weights, None, None


def _save_weight_grad(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    grad, x, ctx.taps, ctx.frames, ctx.before = inputs
    ctx.save_for_backward(grad, x)


def _weight_grad_backward(ctx: Any, grad_BTKC: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    # The operator is linear in `grad` and in `x`: its weights are now those of the mix.
    grad, x = ctx.saved_tensors
    back = ctx.taps - 1 - ctx.before
    grad_x = _mix(grad, _transposed(grad_BTKC, ctx.frames, back), ctx.frames, back)
    return _mix(x, grad_BTKC, ctx.frames, ctx.before), grad_x, None, None, None


def _transposed(weights_BTKC: torch.Tensor, frames: int, before: int) -> torch.Tensor:
    """Weights of the transposed operator: tap j of frame t is tap K-1-j of frame t+j-before."""
    flipped = weights_BTKC.flip(2)
    if flipped.shape[1] == 1:
        return flipped
    taps = flipped.shape[2]
    padded = F.pad(flipped, (0, 0, 0, 0, before, taps - 1 - before))
    return torch.stack([padded[:, j : j + frames, j] for j in range(taps)], 2)


def _save_shift(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    _, *ctx.sizes, ctx.reverse = inputs


def _shift_backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    # The gradient of a value that came from the next frame belongs to the next frame.
    return _shift(_dense(grad), *ctx.sizes, not ctx.reverse), None, None, None, None


def _save_mean(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.shape, ctx.dtype = inputs[0].shape, inputs[0].dtype


def _mean_backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
    pixels = ctx.shape[2] * ctx.shape[3]
    grad_x: torch.Tensor = (grad / pixels).to(ctx.dtype)[:, :, None, None].expand(ctx.shape)
    return grad_x


def _dense(grad_NCHW: torch.Tensor) -> torch.Tensor:
    return grad_NCHW.contiguous(memory_format=torch.channels_last)


_mix.register_autograd(_mix_backward, setup_context=_save_mix)
_weight_grad.register_autograd(_weight_grad_backward, setup_context=_save_weight_grad)
_shift.register_autograd(_shift_backward, setup_context=_save_shift)
_spatial_mean.register_autograd(_mean_backward, setup_context=_save_mean)


@_mix.register_fake
def _(x: torch.Tensor, weights: torch.Tensor, frames: int, before: int) -> torch.Tensor:
    return rows_like(x)


@_weight_grad.register_fake
def _(grad: torch.Tensor, x: torch.Tensor, taps: int, frames: int, before: int) -> torch.Tensor:
    clips, channels = x.shape[0] // frames, x.shape[1]
    return x.new_empty((clips, frames, taps, channels), dtype=torch.float32)


@_shift.register_fake
def _(
    x: torch.Tensor, frames: int, from_next: int, from_previous: int, reverse: bool
) -> torch.Tensor:
    return rows_like(x)


@_spatial_mean.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape[:2], dtype=torch.float32)
