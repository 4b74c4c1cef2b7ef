"""Candidate forms of a network: admitted by their scores, timed, and the choice cached.

Letters: B clips or streams, K classes.
"""

import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import torch

from kinema.errors import OptionError
from kinema.inference.runtime import Form, Precision
from kinema.models.network import VideoNetwork
from kinema.system.cache_folder import cache_folder, check_private
from kinema.system.files import write_whole
from kinema.temporal.kernels.native import processor

_log = logging.getLogger(__name__)
_Runnable = TypeVar("_Runnable")

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


def choose_form(
    name: str,
    forms: Sequence[Form],
    *,
    plain: _Runnable,
    build: Callable[[Form], _Runnable],
    scores: Callable[[_Runnable], torch.Tensor],
    memory: "ChoiceMemory | None",
) -> tuple[Choice, _Runnable]:
    """Returns the remembered form of a network if it fits its weights, else the fastest one.

    Args:
        name: Name of the network, for messages.
        forms: Forms to try, the safest one first.
        plain: The plain network, or its step.
        build: Builds the same in a form.
        scores: Runs either on the example: scores (B, K).
        memory: Choice of earlier runs.

    Raises:
        OptionError: no form preserves the scores.
    """
    expected = scores(plain)
    admitted: dict[Form, _Runnable] = {}
    differences: dict[Form, tuple[float, float]] = {}

    def admit(form: Form) -> bool:
        """Builds a form and keeps it if its scores are within the tolerance."""
        if form not in differences:
            candidate = build(form)
            differences[form] = compare(scores(candidate), expected)
            # NaN is not within any tolerance.
            if differences[form][0] <= TOLERANCE[form.precision]:
                admitted[form] = candidate
            else:
                _log.warning(
                    "Not taken: %s. Its scores differ by %.1e.", form, differences[form][0]
                )
        return form in admitted

    # Times of an earlier run hold for this machine, but whether a form keeps the scores depends
    # on the weights, so that is checked every time.
    known = memory.recall() if memory is not None else None
    if known is not None and admit(known.form):
        choice = Choice(known.form, known.speedup, *differences[known.form], remembered=True)
        return choice, admitted[known.form]
    kept = [form for form in forms if admit(form)]
    if not kept:
        refused = "; ".join(f"{f}: {differences[f][0]:.1e}" for f in forms)
        raise OptionError(
            f"No fast form of {name} preserves its scores. Differences relative to the largest "
            f"score: {refused}."
        )
    times = _times({None: plain, **{form: admitted[form] for form in kept}}, scores)
    best = min(kept, key=lambda form: times[form])
    # The first form is the safest one; another must be clearly faster.
    if times[kept[0]] < GAIN * times[best]:
        best = kept[0]
    choice = Choice(best, times[None] / times[best], *differences[best], remembered=False)
    if memory is not None:
        memory.write(choice)
    return choice, admitted[best]


def _times(
    runnables: Mapping[Form | None, _Runnable], scores: Callable[[_Runnable], torch.Tensor]
) -> dict[Form | None, float]:
    """Median seconds of runs that alternate between the forms."""
    times: dict[Form | None, list[float]] = {form: [] for form in runnables}
    for _ in range(RUNS):
        for form, runnable in runnables.items():
            start = time.perf_counter()
            if scores(runnable).device.type == "cuda":
                torch.cuda.synchronize()
            times[form].append(time.perf_counter() - start)
    return {form: statistics.median(values) for form, values in times.items()}


def compare(got_BK: torch.Tensor, wanted_BK: torch.Tensor) -> tuple[float, float]:
    """Largest difference relative to the largest score, and fraction of equal top-1 classes."""
    difference = (got_BK - wanted_BK).abs().max() / wanted_BK.abs().max().clamp_min(1e-12)
    same = (got_BK.argmax(1) == wanted_BK.argmax(1)).float().mean()
    return float(difference), float(same)


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
        self.file = cache_folder() / f"choice-{key}.json"
        self._forms = forms

    def recall(self) -> Choice | None:
        """Returns the choice of an earlier run.

        None if there is none, or if it is damaged, may be another user's or is no form to try.
        """
        try:
            check_private(self.file)
            data = json.loads(self.file.read_text(encoding="utf-8"))
            form, numbers = Form(**data.pop("form")), map(float, data.values())
            known = dict(zip(data, numbers, strict=True)) | {"remembered": True}
            return Choice(form, **known) if form in self._forms else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def write(self, choice: Choice) -> None:
        """Stores the choice; a failed write is only logged."""
        try:
            write_whole(self.file, json.dumps(asdict(choice)), shared=True)
        except OSError as error:
            _log.info("The measured choice could not be stored: %s.", error)
