"""The steps of streams in native.c equal their plain forms."""

import pytest
import torch

from kinema.temporal.kernels import native
from kinema.temporal.memory import Memory, dynamic_step
from kinema.temporal.tam import TAM

pytestmark = pytest.mark.skipif(native.library() is None, reason="there is no C compiler")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}


def frames(channels: int, dtype: torch.dtype, *, sliced: bool) -> list[torch.Tensor]:
    """Four frames of two streams; sliced ones are channels of a wider activation."""
    wide = torch.randn(4, 2, channels + 8, 5, 7).to(dtype)
    out = [x.contiguous(memory_format=torch.channels_last) for x in wide]
    return [x[:, :channels] if sliced else x[:, :channels].clone() for x in out]


def run(step, video: list[torch.Tensor], *, plain: bool) -> torch.Tensor:
    """All results; gradients, which the native form has not, choose the plain one."""
    state, results = (), []
    with torch.set_grad_enabled(plain):
        for x_NCHW in video:
            memory = Memory(state)
            assert memory.is_native(x_NCHW) is not plain
            results.append(step(x_NCHW, memory).detach())
            state = memory.state()
    return torch.stack(results).float()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize(("channels", "taps"), [(3, 3), (16, 3), (24, 3), (40, 5), (64, 7)])
@pytest.mark.parametrize("gated", [False, True])
def test_convolutions(channels, taps, dtype, sliced, gated):
    video = frames(channels, dtype, sliced=sliced)
    kernels_NCK, gate_NC = torch.randn(2, channels, taps), torch.rand(2, channels)

    def step(x_NCHW, memory):
        return dynamic_step(x_NCHW, kernels_NCK, memory, gate_NC if gated else None)

    native_form, plain = run(step, video, plain=False), run(step, video, plain=True)
    largest = float(plain.abs().max())
    torch.testing.assert_close(native_form, plain, rtol=0, atol=TOLERANCE[dtype] * largest)


@pytest.mark.parametrize("channels", [3, 16, 40])
@pytest.mark.parametrize(("window", "taps"), [(8, 3), (4, 5)])
def test_adaptive_kernels(channels, window, taps):
    module = TAM(16, frames=window, kernel=taps, causal=True).eval()
    norm = module.global_branch[1]
    torch.nn.init.normal_(norm.running_mean)
    first = torch.nn.utils.fusion.fuse_linear_bn_eval(*module.global_branch[:2])
    pooled_NWC = torch.randn(2, window, channels)
    with torch.no_grad():
        got = native.adaptive_kernels(
            pooled_NWC, first.weight, first.bias, module.global_branch[3].weight
        )
        wanted = module.global_branch(pooled_NWC.transpose(1, 2).flatten(0, 1))
    wanted_NKC = wanted.unflatten(0, (2, channels)).transpose(1, 2)
    torch.testing.assert_close(got, wanted_NKC, rtol=1e-4, atol=1e-5)
