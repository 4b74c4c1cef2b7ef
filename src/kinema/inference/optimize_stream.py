"""The fastest form of a network frame by frame on this machine, measured once and remembered.

Letters: B streams, T frames, H, W, K classes.
"""

import importlib.util
import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kinema.errors import OptionError
from kinema.inference.fuse import can_fuse
from kinema.inference.optimize import GAIN, RUNS, TOLERANCE, Choice, ChoiceMemory, compare
from kinema.inference.runtime import Form, Step, build_step
from kinema.models.network import VideoNetwork
from kinema.system.process import keep_freed_memory
from kinema.temporal.memory import State

_log = logging.getLogger(__name__)

# Frames over which a form has to keep the scores: more than any window of the usual networks.
FRAMES = 12


@dataclass(frozen=True)
class FastStep:
    """A step of streams in its fastest form, and what that is.

    Attributes:
        step: Takes frames and state in float32 and gives scores in float32.
        choice: The form, and how it compares with the plain network.
    """

    step: Step
    choice: Choice


def stream_forms(example: torch.Tensor) -> list[Form]:
    """The forms that can run here: PyTorch's, and OpenVINO where it is installed."""
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

    A form counts only when its scores over some frames stay within `kinema.optimize.TOLERANCE` of
    the plain network's.

    Args:
        net: A causal network in eval mode; later changes of its weights do not reach the form.
        example: Frames (B, 3, H, W) of B streams, float, normalized, on the network's device.
        forms: Which to try; by default all that can run here.

    Raises:
        OptionError: the network looks ahead or is in training mode.
    """
    if example.device.type == "cpu":
        keep_freed_memory()
    forms = stream_forms(example) if forms is None else list(forms)
    plain = net.streaming(len(example))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((FRAMES, *example.shape), generator=generator).to(example)
    frames_TBCHW = example + noise
    expected = _scores(plain, frames_TBCHW)
    memory = ChoiceMemory(net, example, forms)
    known = memory.recall()
    steps: dict[Form, Step] = {}
    differences: dict[Form, tuple[float, float]] = {}
    if known is not None:  # the others follow where it does not suit these weights
        forms = [known.form, *(form for form in forms if form != known.form)]
    for form in forms:
        step = build_step(net, form, example)
        differences[form] = compare(_scores(step, frames_TBCHW), expected)
        if differences[form][0] <= TOLERANCE[form.precision]:
            steps[form] = step
        else:
            _log.info("Not taken: %s. Its scores differ by %.1e.", form, differences[form][0])
        if known is not None and known.form in steps:
            choice = Choice(form, known.speedup, *differences[form], remembered=True)
            _log.info("Streams as %s.", choice)
            return FastStep(step, choice)
    if not steps:
        refused = "; ".join(f"{form}: {differences[form][0]:.1e}" for form in forms)
        raise OptionError(
            f"No fast form of {net.name} keeps its scores. Differences relative to the largest "
            f"score: {refused}."
        )
    choice, step = _fastest(plain, steps, differences, frames_TBCHW)
    memory.write(choice)
    _log.info("Streams as %s.", choice)
    return FastStep(step, choice)


def _fastest(
    plain: Step,
    steps: dict[Form, Step],
    differences: dict[Form, tuple[float, float]],
    frames_TBCHW: torch.Tensor,
) -> tuple[Choice, Step]:
    times: dict[Form | None, list[float]] = {form: [] for form in (None, *steps)}
    for _ in range(RUNS):
        for form, seconds in times.items():
            step = plain if form is None else steps[form]
            start = time.perf_counter()
            _scores(step, frames_TBCHW)
            seconds.append(time.perf_counter() - start)
    medians = {form: statistics.median(values) for form, values in times.items()}
    best = min(steps, key=lambda form: medians[form])
    first = next(iter(steps))
    if medians[first] < GAIN * medians[best]:
        best = first
    choice = Choice(best, medians[None] / medians[best], *differences[best], remembered=False)
    return choice, steps[best]


@torch.inference_mode()
def _scores(step: Step, frames_TBCHW: torch.Tensor) -> torch.Tensor:
    """The scores (T*B, K) of one frame after the other."""
    scores = []
    state: State = ()
    for frame_BCHW in frames_TBCHW:
        scores_BK, state = step.advance(frame_BCHW, state)
        scores.append(scores_BK)
    return torch.cat(scores).float()  # waits for a GPU
