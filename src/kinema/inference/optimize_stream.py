"""Fastest form of an online network on this machine, measured once and cached.

Letters: B streams, T frames, H, W, K classes.
"""

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kinema.inference.candidates import Candidates, Choice, ChoiceMemory
from kinema.inference.fuse import can_fuse
from kinema.inference.runtime import Form, Step, build_step
from kinema.models.network import VideoNetwork
from kinema.system.process import keep_freed_memory
from kinema.temporal.memory import State

_log = logging.getLogger(__name__)

# Frames to compare scores on, more than the temporal receptive field of the usual networks.
FRAMES = 12


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
    candidates = Candidates[Step](
        net.name,
        plain=net.streaming(len(example)),
        build=lambda form: build_step(net, form, example),
        scores=lambda step: _scores(step, frames_TBCHW),
    )
    choice, step = candidates.choose(forms, ChoiceMemory(net, example, forms))
    _log.info("Streams as %s.", choice)
    return FastStep(step, choice)


@torch.inference_mode()
def _scores(step: Step, frames_TBCHW: torch.Tensor) -> torch.Tensor:
    """Scores (T*B, K), frame by frame."""
    scores = []
    state: State = ()
    for frame_BCHW in frames_TBCHW:
        scores_BK, state = step.advance(frame_BCHW, state)
        scores.append(scores_BK)
    return torch.cat(scores).float()
