"""Fastest form of a network on this machine, measured once and cached.

Letters: B clips, T frames, H, W, K classes.
"""

import logging
from collections.abc import Iterable
from typing import Literal

import torch

from kinema.errors import InputShapeError, OptionError, check_range, did_you_mean
from kinema.inference.candidates import Candidates, Choice, ChoiceMemory
from kinema.inference.runtime import Form, Precision, RuntimeName, build_run, checked_runtimes
from kinema.models.network import Run, VideoNetwork
from kinema.system.process import keep_freed_memory

_log = logging.getLogger(__name__)

PRECISIONS = ("auto", "32", "bf16")


class FastNetwork:
    """Network in its fastest form; called with clips like the network.

    Attributes:
        net: The plain network.
        choice: The form that runs instead.
    """

    def __init__(self, net: VideoNetwork, choice: Choice, run: Run) -> None:
        self.net = net
        self.choice = choice
        self._run = run

    def __call__(self, clips_BTCHW: torch.Tensor) -> torch.Tensor:
        """Scores normalized float clips (B, T, 3, H, W): (B, K), float32, before softmax."""
        return self._run(clips_BTCHW)


def optimize(
    net: VideoNetwork,
    *,
    example: torch.Tensor,
    precision: Literal["auto", "32", "bf16"] = "auto",
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
    chunks = [_whole_chunk(chunk, len(example)) for chunk in chunks]
    if example.device.type == "cpu":
        keep_freed_memory()
    precisions: tuple[Precision, ...] = ("32", "bf16") if precision == "auto" else (precision,)
    forms = [
        Form(runtime, kind, chunk)
        for runtime in checked_runtimes(runtimes, example)
        for kind in precisions
        for chunk in dict.fromkeys(chunks)
    ]

    @torch.inference_mode()
    def scores(run: Run) -> torch.Tensor:
        return run(example)

    candidates = Candidates[Run](
        net.name, plain=net, build=lambda form: build_run(net, form, example), scores=scores
    )
    memory = ChoiceMemory(net, example, forms) if remember else None
    choice, run = candidates.choose(forms, memory)
    _log.info("Runs as %s.", choice)
    return FastNetwork(net, choice, run)


def _whole_chunk(chunk: int, clips: int) -> int:
    check_range(at_least=0, chunks=chunk)
    return chunk if chunk < clips else 0


def _check(net: VideoNetwork, example: torch.Tensor, precision: str) -> None:
    if precision not in PRECISIONS:
        raise OptionError(
            f"Unknown precision {precision!r}. " + did_you_mean(precision, PRECISIONS)
        )
    if example.ndim != 5 or len(example) == 0:
        raise InputShapeError(
            f"optimize expects example clips of shape (B, T, 3, H, W), got {tuple(example.shape)}."
        )
    if net.training:
        raise OptionError("A network is optimized in eval mode only: call net.eval() first.")


def optimized_at_first(
    net: VideoNetwork, *, precision: Literal["auto", "32", "bf16"] = "auto"
) -> Run:
    """Returns a function from clips to scores that optimizes the network for its first clips."""
    fast: list[FastNetwork] = []

    def run(clips_BTCHW: torch.Tensor) -> torch.Tensor:
        if not fast:
            fast.append(optimize(net, example=clips_BTCHW, precision=precision))
        return fast[0](clips_BTCHW)

    return run
