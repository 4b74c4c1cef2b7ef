"""Fastest form of a network, or of its step, on this machine, measured once and cached.

Letters: B clips or streams, T frames, H, W, K classes.
"""

import importlib.util
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from kinema.errors import InputShapeError, OptionError, check_range, did_you_mean
from kinema.inference.candidates import Choice, ChoiceMemory, choose_form
from kinema.inference.fuse import can_fuse
from kinema.inference.runtime import (
    Form,
    Precision,
    RuntimeName,
    Step,
    build_run,
    build_step,
    checked_runtimes,
)
from kinema.models.network import Run, VideoNetwork
from kinema.system.process import keep_freed_memory
from kinema.temporal.memory import State

_log = logging.getLogger(__name__)

WantedPrecision = Literal["auto", "32", "bf16"]

# Frames to compare scores of steps on, more than the temporal receptive field of most networks.
FRAMES = 12


@dataclass(frozen=True)
class FastNetwork:
    """Network in its fastest form; called with clips like the network.

    Attributes:
        net: The plain network.
        choice: The form that runs instead.
    """

    net: VideoNetwork
    choice: Choice
    _run: Run

    def __call__(self, clips_BTCHW: torch.Tensor) -> torch.Tensor:
        """Scores normalized float clips (B, T, 3, H, W): (B, K), float32, before softmax."""
        return self._run(clips_BTCHW)


def optimize(
    net: VideoNetwork,
    *,
    example: torch.Tensor,
    precision: WantedPrecision = "auto",
    runtimes: Iterable[RuntimeName] | None = None,
    chunks: Iterable[int] = (0, 1),
    remember: bool = True,
) -> FastNetwork:
    """Finds the fastest form of a network for clips like the example.

    Tries the runtimes and precisions of `kinema.inference.runtime.Form`, on whole batches and on
    smaller ones. A form is accepted only if its scores on the example stay within `TOLERANCE` of
    the plain network's. On the CPU the process keeps freed memory from then on (see
    `kinema.system.process`), which alone saves up to a third of the time. Later changes of
    `net`'s weights do not affect the fast form.

    Args:
        net: The network, in eval mode; it is not changed.
        example: Clips (B, T, 3, H, W), float, normalized, on the network's device; preferably real
            ones.
        precision: "auto" uses bfloat16 if it is faster, "32" never, "bf16" always.
        runtimes: Runtimes to try; default: "fused" on CPUs that support it, else "eager", which
            start at once. With "compiled" the first run of each new size takes seconds to
            minutes.
        chunks: Clips per forward pass to try; 0 is the whole batch.
        remember: Uses and stores measurements of this machine.

    Raises:
        OptionError: an option is unknown, the network is in training mode, or no form preserves
            the scores.
        InputShapeError: the example does not fit the network.

    Example:
        >>> from kinema import create_model
        >>> net = create_model("tsm_resnet18", classes=3, frames=8).eval()
        >>> fast = optimize(net, example=torch.randn(2, 8, 3, 32, 32), precision="32")
        >>> fast(torch.randn(4, 8, 3, 32, 32)).shape
        torch.Size([4, 3])
    """
    _check(net, example, precision)
    chunks = list(chunks)
    for chunk in chunks:
        check_range(at_least=0, chunks=chunk)
    if example.device.type == "cpu":
        keep_freed_memory()
    precisions: tuple[Precision, ...] = ("32", "bf16") if precision == "auto" else (precision,)
    forms = [
        Form(runtime, kind, chunk)
        for runtime in checked_runtimes(runtimes, example)
        for kind in precisions
        for chunk in dict.fromkeys(n if n < len(example) else 0 for n in chunks)
    ]

    @torch.inference_mode()
    def scores(run: Run) -> torch.Tensor:
        return run(example)

    plain: Run = net
    choice, run = choose_form(
        net.name,
        forms,
        plain=plain,
        build=lambda form: build_run(net, form, example),
        scores=scores,
        memory=ChoiceMemory(net, example, forms) if remember else None,
    )
    _log.info("Runs as %s.", choice)
    return FastNetwork(net, choice, run)


def _check(net: VideoNetwork, example: torch.Tensor, precision: str) -> None:
    known = get_args(WantedPrecision)
    if precision not in known:
        raise OptionError(f"Unknown precision {precision!r}. " + did_you_mean(precision, known))
    if example.ndim != 5 or len(example) == 0:
        raise InputShapeError(
            f"optimize expects example clips of shape (B, T, 3, H, W), got {tuple(example.shape)}."
        )
    if net.training:
        raise OptionError("A network is optimized in eval mode only: call net.eval() first.")


def optimized_at_first(net: VideoNetwork, *, precision: WantedPrecision = "auto") -> Run:
    """Returns a function from clips to scores that optimizes the network for its first clips."""
    fast: list[FastNetwork] = []

    def run(clips_BTCHW: torch.Tensor) -> torch.Tensor:
        if not fast:
            fast.append(optimize(net, example=clips_BTCHW, precision=precision))
        return fast[0](clips_BTCHW)

    return run


@dataclass(frozen=True)
class FastStep:
    """Step of streams in its fastest form.

    Attributes:
        step: Step with float32 frames, state and scores.
        choice: The form, and its comparison with the plain network.
    """

    step: Step
    choice: Choice


def stream_forms(example: torch.Tensor) -> list[Form]:
    """Returns the available forms: PyTorch's, and OpenVINO if it is installed."""
    runtimes = ["fused" if can_fuse(example.unsqueeze(1)) else "eager", "eager"]
    square = example.shape[-1] == example.shape[-2]
    if example.device.type == "cpu" and square and importlib.util.find_spec("openvino"):
        runtimes.append("openvino")
    return [
        Form(runtime, precision)  # type: ignore[arg-type]
        for runtime in dict.fromkeys(runtimes)
        for precision in ("32", "bf16")
    ]


def optimize_stream(
    net: VideoNetwork, *, example: torch.Tensor, forms: Sequence[Form] | None = None
) -> FastStep:
    """Finds the fastest form of a step for frames like the example.

    A form is accepted only if its scores over some frames stay within
    `kinema.inference.candidates.TOLERANCE` of the plain network's.

    Args:
        net: A causal network in eval mode; later changes of its weights do not affect the form.
        example: Frames (B, 3, H, W) of B streams, float, normalized, on the network's device.
        forms: Forms to try; default: all available ones.

    Raises:
        OptionError: the network is not causal or is in training mode, or no form preserves the
            scores.
    """
    if example.device.type == "cpu":
        keep_freed_memory()
    forms = stream_forms(example) if forms is None else list(forms)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((FRAMES, *example.shape), generator=generator).to(example)
    frames_TBCHW = example + noise
    plain: Step = net.streaming(len(example))
    choice, step = choose_form(
        net.name,
        forms,
        plain=plain,
        build=lambda form: build_step(net, form, example),
        scores=lambda step: _step_scores(step, frames_TBCHW),
        memory=ChoiceMemory(net, example, forms),
    )
    _log.info("Streams as %s.", choice)
    return FastStep(step, choice)


@torch.inference_mode()
def _step_scores(step: Step, frames_TBCHW: torch.Tensor) -> torch.Tensor:
    """Scores (T*B, K), frame by frame."""
    scores = []
    state: State = ()
    for frame_BCHW in frames_TBCHW:
        scores_BK, state = step.advance(frame_BCHW, state)
        scores.append(scores_BK)
    return torch.cat(scores).float()
