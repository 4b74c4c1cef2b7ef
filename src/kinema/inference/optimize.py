"""Fastest form of a network on this machine, measured once and cached.

Letters: B clips, T frames, H, W, K classes.
"""

import hashlib
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from kinema.errors import InputShapeError, OptionError, check_range, did_you_mean
from kinema.inference.runtime import Form, Precision, RuntimeName, build_run, checked_runtimes
from kinema.models.network import Run, VideoNetwork
from kinema.system.process import keep_freed_memory
from kinema.temporal.kernels.native import cache_folder, processor

_log = logging.getLogger(__name__)

PRECISIONS = ("auto", "32", "bf16")

# Maximum difference between the scores of a form and the plain network, relative to the largest.
TOLERANCE: dict[Precision, float] = {"32": 1e-4, "bf16": 5e-2}
# Timed runs of each form, alternating with the others; the median counts.
RUNS = 5
# A form must be clearly faster to be worth its rounding.
GAIN = 1.03


@dataclass(frozen=True)
class Choice:
    """Chosen form, and its comparison with the plain network on the example.

    Attributes:
        form: The form.
        speedup: Time of the plain network over that of the form.
        max_difference: Largest difference of a score, relative to the largest score.
        top1_agreement: Fraction of the example's clips with the same top-1 class.
        remembered: True if the choice comes from an earlier measurement on this machine.
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
            f"within {self.max_difference:.1e} of the largest, best class the same in "
            f"{self.top1_agreement:.0%} of the clips"
        )


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
    rivals = _Rivals(net, example)
    memory = ChoiceMemory(net, example, forms) if remember else None
    known = memory.recall() if memory is not None else None
    if known is not None and rivals.admit(known.form):
        difference, agreement = rivals.differences[known.form]
        choice = Choice(known.form, known.speedup, difference, agreement, remembered=True)
    else:
        choice = rivals.fastest(forms)
        if memory is not None:
            memory.write(choice)
    _log.info("Runs as %s.", choice)
    return FastNetwork(net, choice, rivals.runs[choice.form])


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


class _Rivals:
    """The plain network and the forms that keep its scores on the example."""

    def __init__(self, net: VideoNetwork, example: torch.Tensor) -> None:
        self.net = net
        self.example = example
        with torch.inference_mode():
            self.expected = net(example)
        self.runs: dict[Form, Run] = {}
        self.differences: dict[Form, tuple[float, float]] = {}

    def admit(self, form: Form) -> bool:
        """Builds a form and lets it in if its scores are within the tolerance."""
        if form in self.runs:
            return True
        run = build_run(self.net, form, self.example)
        difference, agreement = compare(run(self.example), self.expected)
        self.differences[form] = difference, agreement
        # A NaN is not within any tolerance.
        if not difference <= TOLERANCE[form.precision]:
            _log.warning("Not taken: %s. Its scores differ by %.1e.", form, difference)
            return False
        self.runs[form] = run
        return True

    def fastest(self, forms: list[Form]) -> Choice:
        """Times all admitted forms, alternating with the plain network."""
        kept = [form for form in forms if self.admit(form)]
        if not kept:
            refused = "; ".join(f"{f}: {self.differences[f][0]:.1e}" for f in forms)
            raise OptionError(
                f"No fast form of {self.net.name} keeps its scores on the example. Differences "
                f"relative to the largest score: {refused}."
            )
        times: dict[Form | None, list[float]] = {form: [] for form in (None, *kept)}
        for _ in range(RUNS):
            times[None].append(_seconds(self.net, self.example))
            for form in kept:
                times[form].append(_seconds(self.runs[form], self.example))
        medians = {form: statistics.median(values) for form, values in times.items()}
        best = min(kept, key=lambda form: medians[form])
        if medians[kept[0]] < GAIN * medians[best]:
            best = kept[0]
        speedup = medians[None] / medians[best]
        return Choice(best, speedup, *self.differences[best], remembered=False)


def compare(got_BK: torch.Tensor, wanted_BK: torch.Tensor) -> tuple[float, float]:
    """Largest difference relative to the largest score, and fraction of equal top-1 classes."""
    difference = (got_BK - wanted_BK).abs().max() / wanted_BK.abs().max().clamp_min(1e-12)
    same = (got_BK.argmax(1) == wanted_BK.argmax(1)).float().mean()
    return float(difference), float(same)


@torch.inference_mode()
def _seconds(run: Run, example: torch.Tensor) -> float:
    start = time.perf_counter()
    run(example)
    if example.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


class ChoiceMemory:
    """Cached choice for a network, input size and set of forms on this machine."""

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
        """Returns the choice of an earlier run; None if there is none or it cannot be read."""
        try:
            data = json.loads(self.file.read_text(encoding="utf-8"))
            return Choice(**{**data, "form": Form(**data["form"]), "remembered": True})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, choice: Choice) -> None:
        """Stores the choice; a failed write is only logged."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.file.parent, prefix=".choice-")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(choice), file)
            os.replace(name, self.file)
        except OSError as error:
            _log.info("The measured choice could not be stored: %s.", error)
