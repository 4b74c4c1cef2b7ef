"""Dispatches temporal operators to a backend (C, Triton, PyTorch) and defines their gradients.

A backend has kernels for activations whose channels are closest in memory: compiled C on the CPU
(native.py), Triton on CUDA (cuda.py). Exported graphs (graph.py) and the authors' forms
(reference.py) are made of PyTorch's own operators, of which autograd finds the derivatives.
Elsewhere each operator has a plain way in its own file.

Letters: B clips, T frames, N = B*T, C channels, H, W, K taps.
"""

import contextlib
import contextvars
import functools
import logging
from collections.abc import Iterator
from typing import Protocol

import torch

from kinema.errors import InputShapeError
from kinema.temporal.kernels import graph, native, reference

_log = logging.getLogger(__name__)
_REFERENCE = contextvars.ContextVar("reference_backend", default=False)


class Operators(Protocol):
    """Operators along time; they trust their arguments."""

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


class Backend(Operators, Protocol):
    """Kernels that autograd knows nothing of, and what their derivatives are made of."""

    def takes(self, x_NCHW: torch.Tensor, taps: int) -> bool:
        """Whether it can work, and wins, on this activation when an output reads `taps` frames."""

    def weight_grad(
        self, grad_NCHW: torch.Tensor, x_NCHW: torch.Tensor, taps: int, frames: int, before: int
    ) -> torch.Tensor:
        """(B, T, K, C) float32: the derivative of `mix` by weights that nobody shares."""

    def shift(
        self,
        x_NCHW: torch.Tensor,
        frames: int,
        from_next: int,
        from_previous: int,
        *,
        reverse: bool = False,
    ) -> torch.Tensor:
        """See the function `shift`; with `reverse` next and previous are exchanged."""


def backend_for(x_NCHW: torch.Tensor, taps: int) -> Operators | None:
    """The operators for this activation; None where the plain way is the best.

    Args:
        x_NCHW: Any activation.
        taps: How many frames an output frame reads.
    """
    if uses_reference_backend():
        return reference
    if torch.compiler.is_exporting():
        return graph
    backend = _backend_on(x_NCHW.device.type)
    return backend if backend is not None and backend.takes(x_NCHW, taps) else None


@contextlib.contextmanager
def reference_backend() -> Iterator[None]:
    """Operators run as the authors' code writes them, to measure against."""
    token = _REFERENCE.set(True)
    try:
        yield
    finally:
        _REFERENCE.reset(token)


def uses_reference_backend() -> bool:
    """Whether operators run as the authors' code writes them."""
    return _REFERENCE.get()


def mix(
    backend: Operators,
    x_NCHW: torch.Tensor,
    weights_BTKC: torch.Tensor,
    frames: int,
    *,
    before: int,
) -> torch.Tensor:
    """out[b,t] = sum over k of weights[b,t,k] * x[b,t+k-before], in one pass.

    Args:
        backend: One that takes the activation.
        x_NCHW: Folded frames.
        weights_BTKC: B and T may be 1 when all clips or frames share them.
        frames: T.
        before: The tap of the frame itself.

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
    if _needs_derivatives(backend, x_NCHW, weights_BTKC):
        mixed: torch.Tensor = _Mix.apply(backend, x_NCHW, weights_BTKC, (frames, before))
        return mixed
    return backend.mix(x_NCHW, weights_BTKC, frames, before)


def shift(
    backend: Operators, x_NCHW: torch.Tensor, frames: int, *, from_next: int, from_previous: int
) -> torch.Tensor:
    """The leading channels from the next frame, those after them from the previous one.

    Raises:
        InputShapeError: the frames are not whole clips.
    """
    _clips(x_NCHW, frames)
    if _needs_derivatives(backend, x_NCHW):
        moved: torch.Tensor = _Shift.apply(backend, x_NCHW, (frames, from_next, from_previous))
        return moved
    return backend.shift(x_NCHW, frames, from_next, from_previous)


def spatial_mean(backend: Operators, x_NCHW: torch.Tensor) -> torch.Tensor:
    """(N, C) float32 means over the pixels of every frame."""
    if _needs_derivatives(backend, x_NCHW):
        mean: torch.Tensor = _Mean.apply(backend, x_NCHW)
        return mean
    return backend.spatial_mean(x_NCHW)


def _needs_derivatives(backend: Operators, *inputs: torch.Tensor) -> bool:
    """Whether derivatives are wanted that autograd cannot find by itself."""
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    return wanted and backend is not reference and backend is not graph


def _clips(x_NCHW: torch.Tensor, frames: int) -> int:
    clips = x_NCHW.shape[0] // frames
    if x_NCHW.shape[0] % frames:
        raise InputShapeError(
            f"Folded frames must be whole clips of {frames}, got {x_NCHW.shape[0]} frames."
        )
    return clips


def _backend_on(device: str) -> Backend | None:
    if device == "cpu":
        return native
    return _triton() if device == "cuda" else None


@functools.cache
def _triton() -> Backend | None:
    try:
        from kinema.temporal.kernels import cuda
    except ImportError as error:
        _log.info("No Triton (%s): temporal modules use PyTorch's own operators on CUDA.", error)
        return None
    return cuda


def _dense(grad_NCHW: torch.Tensor) -> torch.Tensor:
    return grad_NCHW.contiguous(memory_format=torch.channels_last)


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx, backend, x, weights, sizes):  # type: ignore[no-untyped-def]  # autograd's own signature
        ctx.save_for_backward(x, weights)
        ctx.backend, ctx.sizes = backend, sizes
        return backend.mix(x, weights, *sizes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]  # autograd's own signature
        x, weights = ctx.saved_tensors
        (frames, before), taps = ctx.sizes, weights.shape[2]
        grad, grad_x, grad_weights = _dense(grad), None, None
        if ctx.needs_input_grad[1]:
            back = taps - 1 - before
            grad_x = ctx.backend.mix(grad, _transposed(weights, frames, back), frames, back)
        if ctx.needs_input_grad[2]:
            all_weights = ctx.backend.weight_grad(grad, x, taps, frames, before)
            grad_weights = all_weights.sum_to_size(weights.shape).to(weights.dtype)
        return None, grad_x, grad_weights, None


def _transposed(weights_BTKC: torch.Tensor, frames: int, before: int) -> torch.Tensor:
    """The weights of the transposed operator: tap j of frame t is tap K-1-j of frame t+j-before."""
    flipped = weights_BTKC.flip(2)
    if flipped.shape[1] == 1:
        return flipped
    taps = flipped.shape[2]
    padded = torch.nn.functional.pad(flipped, (0, 0, 0, 0, before, taps - 1 - before))
    return torch.stack([padded[:, j : j + frames, j] for j in range(taps)], 2)


class _Shift(torch.autograd.Function):
    @staticmethod
    def forward(ctx, backend, x, sizes):  # type: ignore[no-untyped-def]  # as above
        ctx.backend, ctx.sizes = backend, sizes
        return backend.shift(x, *sizes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]  # as above
        # What came from the next frame goes back to it.
        grad_x = ctx.backend.shift(_dense(grad), *ctx.sizes, reverse=True)
        return None, grad_x, None


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx, backend, x):  # type: ignore[no-untyped-def]  # as above
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return backend.spatial_mean(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]  # as above
        pixels = ctx.shape[2] * ctx.shape[3]
        return None, (grad / pixels).to(ctx.dtype)[:, :, None, None].expand(ctx.shape)
