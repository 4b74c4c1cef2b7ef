"""The fast temporal operators equal their plain forms on every backend.

Letters: B clips, T frames, N = B*T, C channels, H, W, S = H*W, K taps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch

from kinema.errors import InputShapeError
from kinema.temporal.kernels import dispatch, native
from kinema.temporal.kernels.depthwise import depthwise
from kinema.temporal.kernels.dynamic import dynamic
from kinema.temporal.kernels.gate import gate, gate_reference, spatial_mean
from kinema.temporal.kernels.layout import fold_view, time_padding, time_view
from kinema.temporal.kernels.reference import shift as shift_reference
from kinema.temporal.kernels.rows import row_stride
from kinema.temporal.kernels.shift import shift

from .plain_forms import depthwise_reference, dynamic_reference

CLIPS, HEIGHT, WIDTH = 2, 5, 3
LAST = torch.channels_last


def mixed(x_NCHW: torch.Tensor, weights_BTKC: torch.Tensor, before: int) -> torch.Tensor:
    """The equation of every form with weights."""
    clips, frames, taps, _ = weights_BTKC.shape
    x_BTCHW = x_NCHW.unflatten(0, (clips, frames))
    outputs = []
    for b in range(clips):
        for t in range(frames):
            reached = [k for k in range(taps) if 0 <= t + k - before < frames]
            terms = [
                weights_BTKC[b, t, k, :, None, None] * x_BTCHW[b, t + k - before] for k in reached
            ]
            outputs.append(torch.stack(terms).sum(0) if terms else torch.zeros_like(x_BTCHW[b, t]))
    return torch.stack(outputs)


@dataclass(frozen=True)
class Form:
    """A primitive, the shape of its weights, and the weights (B, T, K, C) that it stands for."""

    fast: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
    shape: Callable[[int, int, int], tuple[int, ...]]
    spread: Callable[[torch.Tensor, int, int], torch.Tensor]
    before: int = 0

    def slow(self, x: torch.Tensor, weights: torch.Tensor, frames: int) -> torch.Tensor:
        return mixed(x, self.spread(weights, len(x) // frames, frames), self.before)


def over_time(taps: int, *, causal: bool = False) -> Form:
    return Form(
        lambda x, w, frames: depthwise(x, w, frames, causal=causal),
        lambda clips, frames, channels: (channels, 1, taps, 1),
        lambda w, clips, frames: w[:, 0, :, 0].T.expand(clips, frames, taps, len(w)),
        time_padding(taps, causal=causal)[0],
    )


def by_clip(taps: int, *, every_frame: bool = False, causal: bool = False) -> Form:
    return Form(
        lambda x, w, frames: dynamic(x, w, frames, causal=causal),
        lambda clips, frames, channels: (clips, channels, frames if every_frame else 1, taps),
        lambda w, clips, frames: w.permute(0, 2, 3, 1).expand(clips, frames, taps, w.shape[1]),
        time_padding(taps, causal=causal)[0],
    )


FORMS = {
    "depthwise3": over_time(3),
    "depthwise5": over_time(5),
    "depthwise-causal": over_time(3, causal=True),
    "depthwise17": over_time(17),
    "dynamic-clip": by_clip(3),
    "dynamic-frame": by_clip(3, every_frame=True),
    "dynamic-causal": by_clip(5, every_frame=True, causal=True),
    "gate": Form(
        lambda x, w, frames: gate(x, w),
        lambda clips, frames, channels: (clips * frames, channels),
        lambda w, clips, frames: w.reshape(clips, frames, 1, -1),
    ),
}
LAYOUTS = {
    "channels_last": lambda x: x.contiguous(memory_format=LAST),
    "contiguous": lambda x: x.contiguous(),
    "sliced-channels": lambda x: torch.cat([x, x], 1).contiguous(memory_format=LAST)[:, 1:-1][
        :, : x.shape[1]
    ],
    "every-second-channel": lambda x: x.repeat_interleave(2, 1)[:, ::2],
    "every-second-column": lambda x: x.repeat_interleave(2, 3).contiguous(memory_format=LAST)[
        ..., ::2
    ],
    "permuted": lambda x: x.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1),
    "expanded": lambda x: x[:, :, :, :1].expand_as(x),
    "expanded-frames": lambda x: x[:1].contiguous(memory_format=LAST).expand_as(x),
}
ROUNDING = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.float16: {"rtol": 4e-3, "atol": 1e-2},
    torch.bfloat16: {"rtol": 2e-2, "atol": 6e-2},
}
BACKEND = pytest.mark.parametrize("backend", ["native", "plain"])
FORM = pytest.mark.parametrize("form", FORMS)


def choose(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns the native operators off, or makes sure that they are there."""
    if backend == "plain":
        monkeypatch.setattr(native, "library", lambda: None)
    else:
        needs_native()


def needs_native() -> None:
    """Skips a test where the C kernels cannot be built: the cases "plain" test what runs there.

    test_native.py checks that they are built wherever there is a compiler, so a skip here hides no
    broken build.
    """
    if native.library() is None:
        pytest.skip("no native operators on this machine")


def check_shift(x: torch.Tensor, frames: int, from_next: int, from_previous: int) -> None:
    """Values and derivatives are those of the plain form, bit by bit."""
    x = x.detach().requires_grad_()
    shares = {"from_next": from_next, "from_previous": from_previous}
    fast, plain = shift(x, frames, **shares), shift_reference(x, frames, **shares)
    assert torch.equal(fast, plain)
    grad = torch.randn_like(plain)
    fast_grad, plain_grad = (torch.autograd.grad(y, x, grad)[0] for y in (fast, plain))
    assert torch.equal(fast_grad, plain_grad)


def check(form: Form, x: torch.Tensor, weights: torch.Tensor, frames: int) -> None:
    """Output and derivatives against the equation in float64."""
    x, weights = x.detach().requires_grad_(), weights.detach().requires_grad_()
    exact_x, exact_w = (v.detach().double().requires_grad_() for v in (x, weights))
    got, wanted = form.fast(x, weights, frames), form.slow(exact_x, exact_w, frames)
    rounding = ROUNDING[x.dtype]
    assert got.dtype == x.dtype
    torch.testing.assert_close(got.double(), wanted, **rounding)
    grad = torch.randn_like(got)
    grads = torch.autograd.grad(got, (x, weights), grad)
    exact = torch.autograd.grad(wanted, (exact_x, exact_w), grad.double())
    assert [g.dtype for g in grads] == [x.dtype, weights.dtype]
    torch.testing.assert_close(grads[0].double(), exact[0], **rounding)
    # A weight's derivative is a sum over all pixels.
    size = float(exact[1].abs().max())
    torch.testing.assert_close(
        grads[1].double(), exact[1], rtol=rounding["rtol"], atol=rounding["atol"] * max(size, 1)
    )


def made(form: Form, frames: int, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(CLIPS * frames, channels, HEIGHT, WIDTH).contiguous(memory_format=LAST)
    return x, torch.randn(form.shape(CLIPS, frames, channels))


@BACKEND
@FORM
@pytest.mark.parametrize("layout", LAYOUTS)
def test_forms_equal_their_equation_in_every_memory_layout(form, layout, backend, monkeypatch):
    choose(backend, monkeypatch)
    x, weights = made(FORMS[form], 3, 7)
    check(FORMS[form], LAYOUTS[layout](x), weights, 3)


@BACKEND
@FORM
@pytest.mark.parametrize(
    ("frames", "channels"), [(1, 16), (2, 1), (2, 33), (4, 48), (8, 17), (20, 5), (2, 530)]
)
def test_forms_equal_their_equation_for_every_size(form, frames, channels, backend, monkeypatch):
    choose(backend, monkeypatch)
    check(FORMS[form], *made(FORMS[form], frames, channels), frames)


@BACKEND
@FORM
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [19, 32])
def test_forms_equal_their_equation_in_half_precision(form, dtype, channels, backend, monkeypatch):
    choose(backend, monkeypatch)
    x, weights = made(FORMS[form], 4, channels)
    check(FORMS[form], x.to(dtype), weights.to(dtype), 4)


@BACKEND
@FORM
def test_an_empty_batch_gives_an_empty_batch(form, backend, monkeypatch):
    choose(backend, monkeypatch)
    x, weights = made(FORMS[form], 4, 6)
    if weights.shape[0] in (CLIPS, len(x)):
        weights = weights[:0]
    assert FORMS[form].fast(x[:0].requires_grad_(), weights, 4).shape == (0, 6, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("form", "reference"),
    [
        ("depthwise3", depthwise_reference),
        ("depthwise-causal", partial(depthwise_reference, causal=True)),
        ("depthwise17", depthwise_reference),
        ("dynamic-clip", dynamic_reference),
        ("gate", lambda x, w, frames: gate_reference(x, w)),
    ],
)
def test_the_plain_reference_forms_agree_with_the_equation(form, reference):
    x, weights = (v.double() for v in made(FORMS[form], 4, 6))
    wanted = FORMS[form].slow(x, weights, 4)
    torch.testing.assert_close(reference(x, weights, 4), wanted, rtol=1e-12, atol=1e-12)


@BACKEND
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("layout", ["channels_last", "contiguous", "sliced-channels", "expanded"])
@pytest.mark.parametrize(
    ("frames", "channels", "from_next", "from_previous"),
    [(1, 16, 2, 2), (2, 5, 1, 1), (3, 17, 0, 3), (8, 80, 10, 10), (3, 130, 61, 0), (4, 6, 3, 3)],
)
def test_shift_only_moves_values(
    frames, channels, from_next, from_previous, layout, dtype, backend, monkeypatch
):
    choose(backend, monkeypatch)
    x = LAYOUTS[layout](torch.randn(CLIPS * frames, channels, HEIGHT, WIDTH).to(dtype))
    check_shift(x, frames, from_next, from_previous)


def test_the_derivative_of_shift_keeps_an_infinity_where_it_belongs():
    x = torch.randn(3, 16, 2, 2).contiguous(memory_format=LAST).requires_grad_()
    grad = torch.zeros(3, 16, 2, 2)
    grad[1] = torch.inf
    shift(x, 3, from_next=2, from_previous=2).backward(grad)
    assert x.grad is not None
    assert not x.grad.isnan().any()
    assert x.grad[:, :, 0, 0].isinf().sum(1).tolist() == [2, 12, 2]


@BACKEND
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_spatial_mean_is_taken_in_float32(layout, dtype, backend, monkeypatch):
    choose(backend, monkeypatch)
    x = LAYOUTS[layout]((torch.randn(4, 19, HEIGHT, WIDTH) + 3).to(dtype)).requires_grad_()
    mean = spatial_mean(x)
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean.double(), x.double().mean((2, 3)), rtol=1e-6, atol=1e-6)
    grad = torch.randn_like(mean)
    (got,) = torch.autograd.grad(mean, x, grad)
    wanted = (grad / 15).to(dtype)[:, :, None, None].expand(x.shape)
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-7)


@BACKEND
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_larger_than_the_cache_are_the_same(dtype, backend, monkeypatch):
    choose(backend, monkeypatch)
    x = torch.randn(4, 64, 182, 182).to(dtype).contiguous(memory_format=LAST)
    assert x.numel() * x.element_size() > 16 << 20
    weights = torch.randn(64, 1, 3, 1)
    assert torch.equal(
        shift(x, 4, from_next=8, from_previous=8),
        shift_reference(x, 4, from_next=8, from_previous=8),
    )
    torch.testing.assert_close(
        depthwise(x, weights.to(dtype), 4),
        depthwise_reference(x, weights.to(dtype), 4),
        **ROUNDING[dtype],
    )


@BACKEND
def test_one_activation_used_several_times_gathers_all_derivatives(backend, monkeypatch):
    choose(backend, monkeypatch)

    def scores(x, weights, use):
        y = use(x, weights)
        return (use(y, weights) * y + use(x, weights) * x).sum()

    x, weights = made(FORMS["depthwise3"], 3, 8)
    grads = []
    for use, dtype in (
        (lambda x, w: depthwise(x, w, 3), torch.float32),
        (lambda x, w: depthwise_reference(x, w, 3), torch.float64),
    ):
        leaves = [v.to(dtype).detach().requires_grad_() for v in (x, weights)]
        grads.append(torch.autograd.grad(scores(*leaves, use), leaves))
    for got, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wanted", ["x", "weights"])
@FORM
def test_only_the_wanted_derivative_is_computed(form, wanted):
    x, weights = made(FORMS[form], 3, 6)
    leaf = (x if wanted == "x" else weights).requires_grad_()
    FORMS[form].fast(x, weights, 3).sum().backward()
    assert leaf.grad is not None
    assert (weights if wanted == "x" else x).grad is None


@BACKEND
@FORM
@pytest.mark.parametrize("memory", [LAST, torch.contiguous_format])
def test_autocast_gives_the_same_dtype_on_every_backend(form, memory, backend, monkeypatch):
    choose(backend, monkeypatch)
    x, weights = made(FORMS[form], 4, 16)
    x = x.contiguous(memory_format=memory).requires_grad_()
    weights.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = FORMS[form].fast(x, weights, 4)
        of_half = FORMS[form].fast(x.detach().bfloat16(), weights, 4)
    # A convolution computes in bfloat16 then, a product in the dtype of the activation.
    assert y.dtype == (torch.bfloat16 if form.startswith("depthwise") else torch.float32)
    assert of_half.dtype == torch.bfloat16
    wanted = FORMS[form].slow(x.detach(), weights.detach(), 4)
    torch.testing.assert_close(y.float(), wanted, rtol=2e-2, atol=6e-2)
    grads = torch.autograd.grad(y.float().sum(), (x, weights))
    assert [g.dtype for g in grads] == [torch.float32, torch.float32]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # in opcheck
@pytest.mark.parametrize("weights_shape", [(1, 1, 3, 6), (2, 4, 3, 6)])
def test_operators_are_registered_with_gradients_and_shapes(weights_shape):
    """Schema, gradients, shapes without data and the graphs that AOTAutograd makes of them."""
    needs_native()
    x = torch.randn(8, 6, HEIGHT, WIDTH).contiguous(memory_format=LAST).requires_grad_()
    weights = torch.randn(weights_shape, requires_grad=True)
    torch.library.opcheck(dispatch._mix, (x, weights, 4, 1))
    torch.library.opcheck(dispatch._weight_grad, (torch.randn_like(x), x, 3, 4, 1))
    torch.library.opcheck(dispatch._shift, (x, 4, 2, 1, False))
    torch.library.opcheck(dispatch._spatial_mean, (x,))


@FORM
def test_second_derivatives_equal_those_of_the_equation(form):
    needs_native()
    x, weights = made(FORMS[form], 3, 7)
    x = x.contiguous(memory_format=LAST)

    def second(slow: bool) -> list[torch.Tensor]:
        leaves = [v.double() if slow else v.clone() for v in (x, weights)]
        leaves = [v.detach().requires_grad_() for v in leaves]
        y = (FORMS[form].slow if slow else FORMS[form].fast)(*leaves, 3)
        first = torch.autograd.grad(y.square().sum(), leaves, create_graph=True)
        return list(torch.autograd.grad(sum(g.square().sum() for g in first), leaves))

    for fast, slow in zip(second(False), second(True), strict=True):
        torch.testing.assert_close(
            fast.double(), slow, rtol=1e-3, atol=1e-3 * float(slow.abs().max())
        )


def test_shared_weights_may_have_one_clip_and_one_frame():
    x = torch.randn(6, 4, HEIGHT, WIDTH).contiguous(memory_format=LAST)
    needs_native()
    backend = dispatch.backend_for(x, 2)
    assert backend is not None
    for clips, frames in ((1, 1), (2, 1), (1, 3), (2, 3)):
        weights = torch.randn(clips, frames, 2, 4, requires_grad=True)
        x = x.detach().requires_grad_()
        got = dispatch.mix(backend, x, weights, 3, before=1)
        wanted = mixed(x, weights.expand(2, 3, 2, 4), 1)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
        grad = torch.randn_like(got)
        for a, b in zip(
            torch.autograd.grad(got, (x, weights), grad),
            torch.autograd.grad(wanted, (x, weights), grad),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused_and_not_read():
    needs_native()  # PyTorch's own operators have messages of their own
    x = torch.randn(8, 6, HEIGHT, WIDTH).contiguous(memory_format=LAST)
    with pytest.raises(InputShapeError, match="whole clips of 3, got 8 frames"):
        shift(x, 3, from_next=1, from_previous=1)
    with pytest.raises(InputShapeError, match="with 9 channels do not fit .* with 6 channels"):
        depthwise(x, torch.randn(9, 1, 3, 1), 4)
    with pytest.raises(InputShapeError, match="for 3 clips of 1 frames .* do not fit 2 clips"):
        dynamic(x, torch.randn(3, 6, 1, 3), 4)


@FORM
def test_the_forms_of_the_authors_and_of_exports_can_be_trained(form, monkeypatch):
    x, weights = made(FORMS[form], 3, 7)
    with dispatch.reference_backend():
        check(FORMS[form], x, weights, 3)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    check(FORMS[form], x, weights, 3)
    check_shift(x, 3, 2, 3)


@pytest.mark.parametrize("memory", [torch.contiguous_format, LAST])
def test_time_view_copies_nothing_and_fold_view_undoes_it(memory):
    x = torch.randn(8, 6, 5, 3).contiguous(memory_format=memory)
    view = time_view(x, 4)
    assert view.shape == (2, 6, 4, 15)
    assert view.data_ptr() == x.data_ptr()
    assert torch.equal(fold_view(view, 5, 3), x)


@BACKEND
def test_channels_last_stays_channels_last(backend, monkeypatch):
    choose(backend, monkeypatch)
    x, weights = made(FORMS["depthwise3"], 4, 6)
    for y in (
        shift(x, 4, from_next=1, from_previous=1),
        depthwise(x, weights, 4),
        gate(x, torch.randn(8, 6)),
    ):
        assert y.is_contiguous(memory_format=LAST)


def test_rows_are_found_where_pixels_lie_evenly():
    x = torch.empty(4, 6, 5, 4).contiguous(memory_format=LAST)
    assert row_stride(x) == 6
    assert row_stride(x[:, 2:4]) == 6
    assert row_stride(x[..., ::2]) == 12
    assert row_stride(x[:, :, :, :3]) is None
    assert row_stride(x.contiguous()) is None
    assert row_stride(x[:, ::2]) is None
    assert row_stride(x[:0]) is None
    assert row_stride(x[:1].expand(4, 6, 5, 4)) is None
    assert row_stride(x[:, :1].contiguous()) == 1
    assert row_stride(torch.empty(3, 6, 1, 1)) == 6
