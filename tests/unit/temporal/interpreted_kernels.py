"""The Triton kernels in Triton's interpreter, run by test_cuda_kernels.py in a subprocess.

That process has TRITON_INTERPRET=1 from its start: Triton reads it when a kernel is defined.
"""

from types import SimpleNamespace

import pytest
import torch

from kinema.temporal.kernels import cuda, dispatch
from kinema.temporal.kernels.gate import spatial_mean
from kinema.temporal.kernels.rows import row_stride

from .test_kernels import CLIPS, FORMS, LAYOUTS, ROUNDING, check, check_shift, made


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    """Hands every activation that lies in rows to the Triton kernels."""
    taken = SimpleNamespace(
        takes=lambda x, taps, kernel: row_stride(x) is not None and taps <= 16,
        **{name: getattr(cuda, name) for name in ("mix", "weight_grad", "shift", "spatial_mean")},
    )
    monkeypatch.setattr(dispatch, "_backend_on", lambda device: taken)


slow = pytest.mark.slow


@pytest.mark.parametrize(
    "form",
    [pytest.param(f, marks=[] if f in ("depthwise5", "dynamic-frame") else slow) for f in FORMS],
)
@pytest.mark.parametrize(
    ("dtype", "layout"),
    [
        pytest.param(torch.float32, "sliced-channels", marks=slow),
        (torch.bfloat16, "channels_last"),
        (torch.float16, "permuted"),
    ],
)
def test_forms_equal_their_equation(form, dtype, layout):
    x, weights = made(FORMS[form], 3, 19)
    check(FORMS[form], LAYOUTS[layout](x).to(dtype), weights.to(dtype), 3)


@slow
@pytest.mark.parametrize("programs", [1, 1 << 30])
@pytest.mark.parametrize(("frames", "channels", "pixels"), [(1, 1, 1), (2, 130, 40), (5, 16, 300)])
def test_tiles_cover_every_size(frames, channels, pixels, programs, monkeypatch):
    """Several tiles of pixels and of channels; all frames in one program, or one in each."""
    monkeypatch.setattr(cuda, "_ENOUGH_PROGRAMS", programs)
    form = FORMS["dynamic-causal"]
    x = torch.randn(2 * frames, pixels, 1, channels).permute(0, 3, 1, 2)
    check(form, x, torch.randn(form.shape(CLIPS, frames, channels)), frames)


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(
    ("frames", "from_next", "from_previous"),
    [pytest.param(1, 2, 2, marks=slow), (3, 4, 5), pytest.param(4, 12, 0, marks=slow)],
)
def test_shift_only_moves_values(frames, from_next, from_previous, dtype):
    x = torch.randn(2 * frames, 12, 12, 20).permute(0, 3, 1, 2).to(dtype)
    check_shift(x, frames, from_next, from_previous)


def test_spatial_mean_and_its_derivative():
    x = LAYOUTS["channels_last"](torch.randn(2, 5, 3, 4)).bfloat16().requires_grad_()
    mean = spatial_mean(x)
    torch.testing.assert_close(mean.double(), x.double().mean((2, 3)), rtol=1e-6, atol=1e-6)
    (grad,) = torch.autograd.grad(mean.sum(), x)
    assert torch.equal(grad, torch.full_like(x, 1 / 12))


def test_they_are_tried_before_they_are_used():
    assert cuda.works(torch.device("cpu"), torch.bfloat16)
