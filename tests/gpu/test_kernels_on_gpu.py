"""The Triton kernels on a device equal PyTorch's own operators in float64.

Letters: B clips, T frames, N = B*T, C channels, H, W, K taps.
"""

from collections.abc import Callable

import pytest
import torch

from kinema.temporal.kernels import dispatch
from kinema.temporal.kernels.depthwise import depthwise
from kinema.temporal.kernels.dynamic import dynamic
from kinema.temporal.kernels.gate import gate, gate_reference, spatial_mean
from kinema.temporal.kernels.shift import shift

from ..unit.temporal.plain_forms import depthwise_reference
from ..unit.temporal.test_kernels import check_shift

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CLIPS, FRAMES, CHANNELS = 4, 8, 128
ROUNDING = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.float16: {"rtol": 2e-3, "atol": 5e-3},
    torch.bfloat16: {"rtol": 1e-2, "atol": 4e-2},
}
DTYPE = pytest.mark.parametrize("dtype", ROUNDING)


def made(dtype: torch.dtype, *, sliced: bool = False) -> torch.Tensor:
    """An activation that is large enough to be taken."""
    width = CHANNELS + 8 if sliced else CHANNELS
    x = torch.randn(CLIPS * FRAMES, width, 14, 15, device="cuda", dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)[:, :CHANNELS].requires_grad_()
    assert dispatch.backend_for(x, 3) is not None
    return x


def slow_dynamic(x: torch.Tensor, kernels_BCTK: torch.Tensor) -> torch.Tensor:
    """In float64 PyTorch's own operators serve."""
    assert dispatch.backend_for(x, 3) is None
    return dynamic(x, kernels_BCTK, FRAMES)


@DTYPE
@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize(
    ("shape", "fast", "plain"),
    [
        (
            (CHANNELS, 1, 3, 1),
            lambda x, w: depthwise(x, w, FRAMES),
            lambda x, w: depthwise_reference(x, w, FRAMES),
        ),
        (
            (CHANNELS, 1, 5, 1),
            lambda x, w: depthwise(x, w, FRAMES, causal=True),
            lambda x, w: depthwise_reference(x, w, FRAMES, causal=True),
        ),
        ((CLIPS, CHANNELS, 1, 3), lambda x, w: dynamic(x, w, FRAMES), slow_dynamic),
        ((CLIPS, CHANNELS, FRAMES, 3), lambda x, w: dynamic(x, w, FRAMES), slow_dynamic),
        ((CLIPS * FRAMES, CHANNELS), gate, gate_reference),
    ],
    ids=["depthwise", "depthwise-causal", "dynamic-clip", "dynamic-frame", "gate"],
)
def test_forms_with_weights(
    shape: tuple[int, ...],
    fast: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    plain: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    sliced: bool,
    dtype: torch.dtype,
) -> None:
    x = made(dtype, sliced=sliced)
    weights = torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True)
    exact = [v.detach().double().requires_grad_() for v in (x, weights)]
    got, wanted = fast(x, weights), plain(*exact)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), wanted, **ROUNDING[dtype])
    grad = torch.randn_like(got)
    grads = torch.autograd.grad(got, (x, weights), grad)
    exact_grads = torch.autograd.grad(wanted, exact, grad.double())
    torch.testing.assert_close(grads[0].double(), exact_grads[0], **ROUNDING[dtype])
    # A weight's derivative is a sum over pixels, added in float32.
    size = float(exact_grads[1].abs().max())
    rounding = ROUNDING[dtype]["rtol"]
    torch.testing.assert_close(
        grads[1].double(), exact_grads[1], rtol=rounding, atol=rounding * size
    )


@DTYPE
@pytest.mark.parametrize(("from_next", "from_previous"), [(17, 17), (0, 40), (128, 0)])
def test_shift_only_moves_values(from_next: int, from_previous: int, dtype: torch.dtype) -> None:
    check_shift(made(dtype), FRAMES, from_next, from_previous)


@DTYPE
def test_spatial_mean_is_taken_in_float32(dtype: torch.dtype) -> None:
    x = made(dtype)
    mean = spatial_mean(x)
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean.double(), x.double().mean((2, 3)), rtol=1e-5, atol=1e-6)
    (grad,) = torch.autograd.grad(mean.sum(), x)
    torch.testing.assert_close(grad, torch.full_like(x, 1 / 210), rtol=1e-2, atol=0)


def test_autocast_computes_in_its_dtype() -> None:
    x, weights = made(torch.float32), torch.randn(CHANNELS, 1, 3, 1, device="cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        y = depthwise(x, weights, FRAMES)
    assert y.dtype == torch.bfloat16
    wanted = depthwise_reference(x, weights, FRAMES)
    torch.testing.assert_close(y.float(), wanted, rtol=1e-2, atol=5e-2)


@pytest.mark.slow
def test_more_values_than_a_32_bit_number_counts() -> None:
    # Only more than 2**31 values show an overflow: 4.5 GB in bfloat16, and as much again for each
    # result and twice that for a comparison. A smaller or busy device cannot hold them.
    free, _ = torch.cuda.mem_get_info()
    if free < 24 << 30:
        pytest.skip("needs 24 GB of free device memory")
    x = torch.ones(2, 256, 2200, 2000, device="cuda", dtype=torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last)
    assert x.numel() > 1 << 31
    weights = torch.ones(256, 1, 3, 1, device="cuda", dtype=torch.bfloat16)
    with torch.no_grad():
        assert bool((depthwise(x, weights, 2) == 2).all())
        moved = shift(x, 2, from_next=0, from_previous=256)
    assert bool((moved[0] == 0).all())
    assert bool((moved[1] == 1).all())
