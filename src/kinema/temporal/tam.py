"""TAM: temporal adaptive module of TANet, and its ablations."""

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

from kinema.errors import OptionError, check_range
from kinema.temporal.base import TemporalModule, check_choice, register
from kinema.temporal.conv import check_kernel, reach
from kinema.temporal.kernels import native
from kinema.temporal.kernels.dynamic import dynamic
from kinema.temporal.kernels.gate import gate, spatial_mean
from kinema.temporal.kernels.layout import time_padding
from kinema.temporal.memory import Memory, dynamic_step
from kinema.temporal.se import reduced

Branches = Literal["both", "global", "local", "global_se"]


@register("tam", at="after_conv1")
class TAM(TemporalModule):
    """Temporal adaptive module (TANet: Liu et al., ICCV 2021, arXiv 2005.06803, eq. 1-6).

    Both branches read the spatially pooled clip. The local branch L (two convolutions along time)
    computes a gate for each channel and frame. The global branch G (two fully connected layers
    along time, shared by the channels) computes a kernel of `kernel` taps for each channel of the
    clip. The output is G(x) (*) (L(x) * x), where (*) convolves along time. The gate is folded
    into the kernels, so x is read once and no gated copy is stored.

    Unlike in the authors' code, where the kernels of both branches have one size, the local
    branch's stays 3, as in the paper. The published block is position `after_conv1` (style b); the
    other styles of figure 3 are `before_conv1` (a), `after_conv2` (c) and `before_addition` (d).
    The global branch is T wide, so its weights depend on the number of frames.

    Causal: the last tap of both branches reads the frame itself, and each frame has its own
    kernels, from a window of the last `window` frames (zeros before the first). The window does
    not change with the number of frames.

    Weights: aT^2 + 2aT + aTK (global), 4C^2/b + 2C/b (local). Multiply-adds: K per value, as for a
    depth-wise convolution. State when streaming (causal): the pooled frames of the window and K-1
    past frames; otherwise it needs the whole clip.

    Args:
        channels: C.
        frames: T.
        alpha: a, expansion of the global branch: its hidden layer has aT units.
        beta: b, reduction of the local branch.
        kernel: K, taps of the adaptive kernel, odd and at least 3.
        branches: "both", "global" or "local" alone, or "global_se": squeeze-and-excitation of each
            frame instead of the local branch, before the global branch.
        reverse: Gate after instead of before the convolution (TANet-R).
        reduction: Reduction of the squeeze-and-excitation; the paper does not give it, and 8 has
            its parameter count.
        opposed: Start the kernels as shifts, forward for channels with a mean above average and
            backward for those below, instead of nearly the same blur for all. For fine-tuning on
            few videos; it is in neither the paper nor the code.
        causal: No frame looks ahead.
        window: Number of frames that the causal global branch reads, the frame itself included;
            default T.
    """

    def __init__(  # noqa: PLR0913 - options of the paper
        self,
        channels: int,
        *,
        frames: int,
        alpha: int = 2,
        beta: int = 4,
        kernel: int = 3,
        branches: Branches = "both",
        reverse: bool = False,
        reduction: int = 8,
        opposed: bool = False,
        causal: bool = False,
        window: int | None = None,
    ) -> None:
        _check_options(branches, kernel=kernel, reverse=reverse, opposed=opposed)
        if window is not None and not causal:
            raise OptionError("TAM window is for causal=True; otherwise it sees the whole clip.")
        seen = frames if window is None else window
        check_range(at_least=1, **{"TAM alpha": alpha, "TAM beta": beta, "TAM window": seen})
        super().__init__(
            frames=frames, causal=causal, **_reach(branches, kernel, seen, causal=causal)
        )
        has_global = branches != "local"
        # The global branch is a linear layer over the T frames of the clip; the causal one reads a
        # window of fixed length instead, so any number of frames may follow.
        self.frames_in_weights = has_global and not causal
        self.window = seen
        self.alpha = alpha
        self.kernel = kernel
        self.reverse = reverse
        self.global_branch = _global_branch(seen, alpha, kernel) if has_global else None
        if opposed and self.global_branch is not None:
            _init_opposed(self.global_branch)
        self.local_branch = _local_branch(channels, beta) if branches in ("both", "local") else None
        self.frame_branch = _frame_branch(channels, reduction) if branches == "global_se" else None

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Gates and convolves adaptively: (N, C, H, W) -> (N, C, H, W)."""
        means_NC = spatial_mean(x_NCHW).to(x_NCHW.dtype)
        pooled_BTC = torch.unflatten(means_NC, 0, (-1, self.frames))
        # Both branches see spatial means only: C x T values instead of C x T x H x W.
        gate_BCT, kernels_BCTK = self.weights(pooled_BTC.transpose(1, 2))
        # Without the global branch the module is a channel gate.
        if kernels_BCTK is None:
            assert gate_BCT is not None
            return gate(x_NCHW, gate_BCT.transpose(1, 2).flatten(0, 1))
        # G (*) (L * x) convolves x with kernels G L, where L is the gate of the frame that a tap
        # reads: no gated copy of x is stored.
        if gate_BCT is not None:
            kernels_BCTK = kernels_BCTK * self._gate_of_taps(gate_BCT)
        return dynamic(x_NCHW, kernels_BCTK.to(x_NCHW.dtype), self.frames, causal=self.causal)

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Gates and convolves the newest frames; the memory holds means and K-1 gated frames."""
        # Order matters: memory hands out the past of each value in the order of the requests.
        means_NC = spatial_mean(x_NCHW)
        gate_NC: torch.Tensor | None = None
        if self.local_branch is not None:
            gate_NC = self._newest_gate(memory.window(means_NC, 3).to(x_NCHW.dtype))
        if self.frame_branch is not None:
            gate_NC = self.frame_branch(means_NC.to(x_NCHW.dtype))
            means_NC = gate_NC * means_NC
        if self.global_branch is None:
            assert gate_NC is not None
            return gate(x_NCHW, gate_NC)
        # The past frames in memory are gated already, so the gate applies to the newest frame only.
        native_form = memory.is_native(x_NCHW, self.kernel, "adaptive_kernels")
        kernels_NCK = self._newest_kernels(memory.window(means_NC, self.window), native_form)
        # TANet-R gates the result: the newest frame's gate scales all taps, and the memory holds
        # frames without gates.
        if gate_NC is not None and self.reverse:
            kernels_NCK, gate_NC = kernels_NCK * gate_NC.unsqueeze(2), None
        return dynamic_step(x_NCHW, kernels_NCK, memory, gate_NC)

    def _newest_gate(self, pooled_N3C: torch.Tensor) -> torch.Tensor:
        """The local branch for the last of three frames, (N, C), as two matrix products.

        A convolution over three values takes many times as long.
        """
        assert self.local_branch is not None
        first, norm, activation, last, sigmoid = self.local_branch
        assert isinstance(first, nn.Conv1d)
        assert isinstance(last, nn.Conv1d)
        rows = pooled_N3C.transpose(1, 2).flatten(1)
        hidden_ND = F.linear(rows, first.weight.flatten(1), first.bias)
        out: torch.Tensor = sigmoid(F.linear(activation(norm(hidden_ND)), last.weight[:, :, 0]))
        return out

    def _newest_kernels(self, pooled_NWC: torch.Tensor, native_form: bool) -> torch.Tensor:
        """The global branch for windows of pooled frames: (N, C, K)."""
        assert self.global_branch is not None
        first, norm, _, last, _ = self.global_branch
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        if native_form and isinstance(norm, nn.Identity):  # the norm is folded into `first`
            kernels_NKC = native.adaptive_kernels(
                pooled_NWC.float(), first.weight, first.bias, last.weight
            )
            return kernels_NKC.transpose(1, 2)
        rows_NCW = pooled_NWC.transpose(1, 2).to(first.weight.dtype)
        kernels = self.global_branch(rows_NCW.flatten(0, 1))
        return torch.unflatten(kernels, 0, rows_NCW.shape[:2])

    def weights(self, pooled_BCT: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Gates (B, C, T) and kernels (B, C, T or 1, K) of clips; None without the branch.

        Args:
            pooled_BCT: Spatial means of the frames.
        """
        gate_BCT = None
        if self.local_branch is not None:
            padded = F.pad(pooled_BCT, time_padding(3, causal=self.causal))
            gate_BCT = self.local_branch(padded)
        if self.frame_branch is not None:
            gate_BCT = self.frame_branch(pooled_BCT.transpose(1, 2)).transpose(1, 2)
            pooled_BCT = gate_BCT * pooled_BCT
        if self.global_branch is None:
            return gate_BCT, None
        # One row of the global branch per channel, and if causal per frame with its own window.
        if self.causal:
            windows_BCTW = F.pad(pooled_BCT, (self.window - 1, 0)).unfold(2, self.window, 1)
        else:
            windows_BCTW = pooled_BCT.unsqueeze(2)
        rows = windows_BCTW.flatten(0, 2)
        kernels_BCTK = torch.unflatten(self.global_branch(rows), 0, windows_BCTW.shape[:3])
        return gate_BCT, kernels_BCTK

    def _gate_of_taps(self, gate_BCT: torch.Tensor) -> torch.Tensor:
        """Gates of the frames that the taps read, (B, C, T, K); with `reverse` (B, C, T, 1)."""
        if self.reverse:
            return gate_BCT.unsqueeze(3)
        padded = F.pad(gate_BCT, time_padding(self.kernel, causal=self.causal))
        return padded.unfold(2, self.kernel, 1)

    def pinned_options(self) -> dict[str, Any]:
        """The causal window, which does not change with the number of frames."""
        return {"window": self.window} if self.causal else {}

    def uncounted_macs(self, x_NCHW: torch.Tensor) -> int:
        """Multiply-adds of the adaptive convolution, K per value."""
        return 0 if self.global_branch is None else self.kernel * x_NCHW.numel()

    def interpolate_frames(self, frames: int) -> None:
        """Resamples the global branch linearly along time and keeps sums over frames."""
        if self.global_branch is None or not self.frames_in_weights or frames == self.frames:
            self.set_frames(frames)
            return
        fresh = resampled(self.global_branch, _global_branch(frames, self.alpha, self.kernel))
        self.global_branch = fresh.train(self.training)
        self.frames = self.window = frames


def resampled(old: nn.Sequential, fresh: nn.Sequential) -> nn.Sequential:
    """`fresh` with the weights of `old` over another number of frames.

    They are interpolated linearly; matrices keep their sums over inputs.
    """
    values = old.state_dict()
    for name, new in fresh.state_dict().items():
        value = values[name]
        if value.shape == new.shape:
            continue
        size, mode = tuple(new.shape), "linear" if new.ndim == 1 else "bilinear"
        row = F.interpolate(value[None, None].float(), size, mode=mode)[0, 0]
        share = value.shape[1] / new.shape[1] if new.ndim == 2 else 1
        values[name] = (row * share).to(value.dtype)
    fresh.load_state_dict(values)
    return fresh.to(next(old.parameters()))


def _global_branch(frames: int, alpha: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(frames, alpha * frames, bias=False),
        nn.BatchNorm1d(alpha * frames),
        nn.ReLU(inplace=True),
        nn.Linear(alpha * frames, kernel, bias=False),
        nn.Softmax(-1),
    )


def _init_opposed(global_branch: nn.Sequential) -> None:
    """Starts taps before the middle with logit 8z, taps after it with -8z and the middle with 2.

    z is a channel's mean as the norm standardizes it: one half of the hidden units start as 1+z,
    the other half as 1-z. A share of the random start breaks their symmetry.
    """
    first, norm, _, last, _ = global_branch
    assert isinstance(first, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(last, nn.Linear)
    sign = torch.ones(first.out_features)
    sign[first.out_features // 2 :] = -1
    share = torch.where(sign > 0, 1 / (sign > 0).sum(), 1 / (sign < 0).sum())
    taps = last.out_features
    side = torch.sign(taps // 2 - torch.arange(taps))
    with torch.no_grad():
        first.weight.mul_(0.3).add_(sign.unsqueeze(1) / first.in_features**0.5)
        nn.init.ones_(norm.bias)
        last.weight.mul_(0.3).add_(
            share * (4.0 * side.unsqueeze(1) * sign + (side == 0).unsqueeze(1))
        )


def _local_branch(channels: int, beta: int) -> nn.Sequential:
    width = reduced(channels, beta)
    return nn.Sequential(
        nn.Conv1d(channels, width, 3, bias=False),  # the caller pads
        nn.BatchNorm1d(width),
        nn.ReLU(inplace=True),
        nn.Conv1d(width, channels, 1, bias=False),
        nn.Sigmoid(),
    )


def _frame_branch(channels: int, reduction: int) -> nn.Sequential:
    width = reduced(channels, reduction)
    return nn.Sequential(
        nn.Linear(channels, width, bias=False),
        nn.ReLU(inplace=True),
        nn.Linear(width, channels, bias=False),
        nn.Sigmoid(),
    )


def _check_options(branches: str, *, kernel: int, reverse: bool, opposed: bool) -> None:
    check_choice(get_args(Branches), **{"TAM branches": branches})
    check_kernel("TAM", kernel)
    if opposed and branches == "local":
        raise OptionError("TAM opposed needs the global branch, which branches='local' leaves out.")
    if reverse and branches != "both":
        raise OptionError("TAM reverse needs branches='both': it changes their order.")


def _reach(branches: Branches, kernel: int, window: int, *, causal: bool) -> dict[str, int | None]:
    """`look_back` and `look_ahead`; None where an output frame depends on the whole clip."""
    if branches == "local":
        return {**reach(3, causal=causal)}
    if not causal:
        return {"look_back": None, "look_ahead": None}
    # The adaptive kernel reads `kernel - 1` past frames. With a local branch each of them comes
    # gated, and the causal gate reads two more. The kernel itself depends on the window.
    gated = kernel - 1 + (2 if branches == "both" else 0)
    return {"look_back": max(window - 1, gated), "look_ahead": 0}
