"""The fast forms along time equal their plain reference forms."""

import pytest
import torch

from kinema.temporal.kernels.depthwise import depthwise, depthwise_reference
from kinema.temporal.kernels.layout import fold_view, time_view
from kinema.temporal.kernels.shift import shift, shift_reference

MEMORY = pytest.mark.parametrize(
    "memory", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"]
)
FRAMES = pytest.mark.parametrize("frames", [1, 2, 3, 8])


def made(frames: int, channels: int, memory: torch.memory_format) -> torch.Tensor:
    x = torch.randn(2 * frames, channels, 5, 3)
    return x.contiguous(memory_format=memory).requires_grad_()


@MEMORY
@FRAMES
@pytest.mark.parametrize(("from_next", "from_previous"), [(2, 2), (0, 3), (1, 0)])
def test_shift_equals_its_reference(frames, memory, from_next, from_previous):
    x = made(frames, 17, memory)
    shares = {"from_next": from_next, "from_previous": from_previous}
    fast, plain = shift(x, frames, **shares), shift_reference(x, frames, **shares)
    assert torch.equal(fast, plain)
    grad = torch.randn_like(plain)
    fast_grad, plain_grad = (torch.autograd.grad(y, x, grad)[0] for y in (fast, plain))
    assert torch.equal(fast_grad, plain_grad)


@MEMORY
@FRAMES
@pytest.mark.parametrize("kernel", [3, 5])
def test_depthwise_equals_its_reference(frames, memory, kernel):
    x, weight = made(frames, 7, memory), torch.randn(7, 1, kernel, 1, requires_grad=True)
    fast, plain = depthwise(x, weight, frames), depthwise_reference(x, weight, frames)
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-6)
    grad = torch.randn_like(plain)
    for got, wanted in zip(
        torch.autograd.grad(fast, (x, weight), grad),
        torch.autograd.grad(plain, (x, weight), grad),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@MEMORY
def test_time_view_copies_nothing_and_fold_view_undoes_it(memory):
    x = made(4, 6, memory).detach()
    view = time_view(x, 4)
    assert view.shape == (2, 6, 4, 15)
    assert view.data_ptr() == x.data_ptr()
    assert torch.equal(fold_view(view, 5, 3), x)


@pytest.mark.parametrize("form", ["shift", "depthwise"])
def test_channels_last_stays_channels_last(form):
    x = made(4, 6, torch.channels_last)
    if form == "shift":
        y = shift(x, 4, from_next=1, from_previous=1)
    else:
        y = depthwise(x, torch.randn(6, 1, 3, 1), 4)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_a_non_contiguous_input_gives_the_same():
    x = torch.randn(8, 10, 5, 6)[:, ::2, :, 1::2]
    assert torch.equal(
        shift(x, 4, from_next=1, from_previous=1),
        shift_reference(x, 4, from_next=1, from_previous=1),
    )


def test_autocast_computes_depthwise_in_bfloat16():
    x, weight = torch.randn(4, 6, 4, 4), torch.randn(6, 1, 3, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = depthwise(x, weight, 4)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), depthwise_reference(x, weight, 4), rtol=2e-2, atol=5e-2)
