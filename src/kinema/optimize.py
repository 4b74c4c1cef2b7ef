"""The fastest form of a network on this machine, measured once and remembered.

Letters: B clips, T frames, H, W, K classes.
"""

import hashlib
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from kinema.errors import InputShapeError, OptionError, did_you_mean
from kinema.memory import keep_freed_memory
from kinema.models.fold import fold_batch_norms
from kinema.models.network import VideoNetwork
from kinema.temporal.kernels.native import cache_folder, processor

_log = logging.getLogger(__name__)

Precision = Literal["auto", "32", "bf16"]
PRECISIONS = ("auto", "32", "bf16")

# How far the scores of a form may be from those of the plain network, relative to the largest.
TOLERANCE = {"32": 1e-4, "bf16": 5e-2}
# Timed runs of each form, alternating with the others; the median counts.
RUNS = 5
# A form that is not clearly faster is not worth its rounding.
GAIN = 1.03


@dataclass(frozen=True)
class Form:
    """One way to run a network.

    Attributes:
        precision: "32" or "bf16", of weights and activations.
        compiled: Whether PyTorch's compiler makes the kernels.
        chunk: Clips of one forward pass; 0 takes the whole batch at once.
    """

    precision: Literal["32", "bf16"]
    compiled: bool = False
    chunk: int = 0

    def __str__(self) -> str:
        parts = ["folded norms", "channels_last", f"{self.precision}-bit floats"]
        if self.precision == "bf16":
            parts[-1] = "bfloat16"
        if self.compiled:
            parts.append("compiled")
        if self.chunk:
            parts.append(f"{self.chunk} clips at a time")
        return ", ".join(parts)


@dataclass(frozen=True)
class Choice:
    """What was chosen and how it compares with the plain network on the example.

    Attributes:
        form: The form.
        speedup: The plain network's time over that of the form.
        max_difference: Largest difference of a score, relative to the largest score.
        top1_agreement: Share of the example's clips with the same best class.
        remembered: Whether an earlier measurement on this machine was taken.
    """

    form: Form
    speedup: float
    max_difference: float
    top1_agreement: float
    remembered: bool

    def __str__(self) -> str:
        known = "measured before" if self.remembered else "measured now"
        return (
            f"{self.form}: {self.speedup:.2f} times as fast as the plain network ({known}), scores "
            f"within {self.max_difference:.1e}, best class the same in {self.top1_agreement:.0%} "
            "of the clips"
        )


class FastNetwork:
    """A network in its fastest form: call it with clips as the network itself.

    Attributes:
        net: The plain network.
        choice: What runs instead of it.
    """

    def __init__(self, net: VideoNetwork, choice: Choice, run: Callable[..., torch.Tensor]) -> None:
        self.net = net
        self.choice = choice
        self._run = run

    def __call__(self, clips_BTCHW: torch.Tensor) -> torch.Tensor:
        """(B, T, 3, H, W) float, normalised -> (B, K) float32 scores before softmax."""
        return self._run(clips_BTCHW)


def optimize(
    net: VideoNetwork,
    *,
    example: torch.Tensor,
    precision: Precision = "auto",
    compiled: bool = False,
    chunks: Iterable[int] = (0, 1),
    remember: bool = True,
) -> FastNetwork:
    """Finds the fastest form of a network for clips like the example.

    Tried are folded norms in channels_last memory, with bfloat16, compiled kernels and smaller
    batches as the arguments allow. A form counts only when its scores on the example stay within
    `TOLERANCE` of the plain network's. On the CPU the process keeps freed memory from then on (see
    `kinema.memory`), which alone is up to a third of the time. Later changes of `net`'s weights do
    not reach the fast form.

    Args:
        net: The network; it is not changed, and must be in eval mode.
        example: Clips (B, T, 3, H, W), float, normalised, on the network's device; best real ones.
        precision: "auto" takes bfloat16 where it is faster, "32" never, "bf16" always.
        compiled: Whether compiled kernels are tried too: the first run of each new size takes
            from seconds to minutes.
        chunks: Clips of one forward pass to try; 0 is the whole batch.
        remember: Whether to use and to write down what was measured on this machine.

    Raises:
        OptionError: the network is in training mode, or no form keeps the scores.
        InputShapeError: the example does not fit the network.

    Example:
        >>> from kinema import create_model
        >>> net = create_model("tsm_resnet18", classes=3, frames=8).eval()
        >>> fast = optimize(net, example=torch.randn(2, 8, 3, 32, 32), precision="32")
        >>> fast(torch.randn(4, 8, 3, 32, 32)).shape
        torch.Size([4, 3])
    """
    if precision not in PRECISIONS:
        raise OptionError(
            f"Unknown precision {precision!r}. " + did_you_mean(precision, PRECISIONS)
        )
    if example.ndim != 5 or len(example) == 0:
        raise InputShapeError(
            f"optimize wants example clips of shape (B, T, 3, H, W), got {tuple(example.shape)}."
        )
    if example.device.type == "cpu":
        keep_freed_memory()
    folded = fold_batch_norms(net).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = net(example)
    wanted = ("32", "bf16") if precision == "auto" else (precision,)
    forms = [
        Form(precision=kind, compiled=c, chunk=chunk)
        for kind in wanted
        for c in ((False, True) if compiled else (False,))
        for chunk in chunks
        if chunk < len(example)
    ]
    memory = _Memory(net, example, forms) if remember else None
    known = memory.recall() if memory is not None else None
    if known is not None:
        run = _runner(folded, known.form)
        difference, agreement = _compare(run, example, expected)
        if difference <= TOLERANCE[known.form.precision]:
            choice = Choice(known.form, known.speedup, difference, agreement, remembered=True)
            _log.info("Runs as %s.", choice)
            return FastNetwork(net, choice, run)
    choice = _measured(net, folded, example, expected, forms)
    if memory is not None:
        memory.write(choice)
    _log.info("Runs as %s.", choice)
    return FastNetwork(net, choice, _runner(folded, choice.form))


def _measured(
    net: VideoNetwork,
    folded: VideoNetwork,
    example: torch.Tensor,
    expected: torch.Tensor,
    forms: list[Form],
) -> Choice:
    """Times every form that keeps the scores, alternating with the plain network."""
    kept: dict[Form, tuple[Callable[..., torch.Tensor], float, float]] = {}
    refused = []
    for form in forms:
        run = _runner(folded, form)
        difference, agreement = _compare(run, example, expected)
        if difference <= TOLERANCE[form.precision]:
            kept[form] = (run, difference, agreement)
        else:
            refused.append(f"{form}: scores differ by {difference:.1e} of the largest")
            _log.warning("Not taken: %s.", refused[-1])
    if not kept:
        raise OptionError("No fast form keeps the scores. " + "; ".join(refused))
    times: dict[Form | None, list[float]] = {form: [] for form in (None, *kept)}
    with torch.inference_mode():
        for _ in range(RUNS):
            times[None].append(_seconds(net, example))
            for form, (run, _, _) in kept.items():
                times[form].append(_seconds(run, example))
    medians = {form: statistics.median(t) for form, t in times.items()}
    simplest = next(iter(kept))
    best = min(kept, key=lambda form: medians[form])
    if medians[simplest] < GAIN * medians[best]:
        best = simplest
    _, difference, agreement = kept[best]
    return Choice(best, medians[None] / medians[best], difference, agreement, remembered=False)


def _runner(folded: VideoNetwork, form: Form) -> Callable[..., torch.Tensor]:
    dtype = torch.bfloat16 if form.precision == "bf16" else torch.float32
    net: Any = folded if dtype == torch.float32 else _as(folded, dtype)
    if form.compiled:
        net = torch.compile(net)

    def run(clips_BTCHW: torch.Tensor) -> torch.Tensor:
        size = form.chunk or len(clips_BTCHW)
        with torch.inference_mode():
            parts = [net(part.to(dtype)).float() for part in clips_BTCHW.split(max(size, 1))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return run


def _as(net: VideoNetwork, dtype: torch.dtype) -> VideoNetwork:
    """A copy with weights of another type, in channels_last memory."""
    copied = fold_batch_norms(net)  # nothing is left to fold: a copy
    return copied.to(dtype).to(memory_format=torch.channels_last)


def _compare(
    run: Callable[..., torch.Tensor], example: torch.Tensor, expected: torch.Tensor
) -> tuple[float, float]:
    """The largest difference relative to the largest score, and the share of equal best classes."""
    got = run(example)
    difference = (got - expected).abs().max() / expected.abs().max().clamp_min(1e-12)
    same = (got.argmax(1) == expected.argmax(1)).float().mean()
    return float(difference), float(same)


def _seconds(run: Callable[..., torch.Tensor], example: torch.Tensor) -> float:
    start = time.perf_counter()
    run(example)
    if example.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


class _Memory:
    """What was measured for a network, size and set of forms on this machine."""

    def __init__(self, net: VideoNetwork, example: torch.Tensor, forms: list[Form]) -> None:
        device = example.device
        facts = {
            "network": net.spec.to_dict(),
            "shape": list(example.shape),
            "forms": [asdict(form) for form in forms],
            "machine": processor() if device.type == "cpu" else torch.cuda.get_device_name(device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        self.file: Path = cache_folder() / f"choice-{key}.json"

    def recall(self) -> Choice | None:
        """The choice of an earlier run; None when there is none or it cannot be read."""
        try:
            data = json.loads(self.file.read_text(encoding="utf-8"))
            return Choice(**{**data, "form": Form(**data["form"]), "remembered": True})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, choice: Choice) -> None:
        """Keeps the choice; a cache that cannot be written is only logged."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.file.parent, prefix=".choice-")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(choice), file)
            os.replace(name, self.file)
        except OSError as error:
            _log.info("The measured choice could not be kept: %s.", error)
