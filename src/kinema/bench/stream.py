"""Benchmark of networks frame by frame, against the plain backbone and a sliding clip.

Letters: B streams, T frames, H, W.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from kinema.bench.result import Measurement
from kinema.bench.timing import alternate
from kinema.errors import OptionError, did_you_mean
from kinema.inference.runtime import Form, Step, build_run, build_step
from kinema.models.network import VideoNetwork
from kinema.models.zoo import create_model
from kinema.system.process import keep_freed_memory
from kinema.temporal.kernels.dispatch import backend_name
from kinema.temporal.memory import State

FAMILIES = ("tsn", "tsm", "tim", "tei", "tam")
BACKBONES = ("mobilenetv2_100", "resnet50")
PLAIN, BASE = "plain", "tsn"
FORMS = {
    "fused-32": Form("fused", "32"),
    "fused-bf16": Form("fused", "bf16"),
    "openvino-32": Form("openvino", "32"),
    "openvino-bf16": Form("openvino", "bf16"),
}
# A sliding clip takes many times as long as a step, so it is timed less often.
SLIDING_SHARE = 8

NOTES = (
    "A step takes one new frame of each camera and gives its scores; frames_per_s counts all "
    "cameras.",
    "plain: the network as it is, eager, float32, channels_last. fused: norms folded, convolutions "
    "fused with what follows them, PyTorch alone. openvino: the exported step. `kinema stream "
    "--fast` takes the fastest of them.",
    "ratio: time of a step over that of the plain 2D backbone (tsn) in the same form.",
    "sliding: time of scoring the newest clip of T frames anew for every frame, as an offline "
    "network must, in the same form; gain: that time over the time of a step.",
    "p50 and p99: of single steps, in milliseconds, preprocessing excluded.",
)


@dataclass(frozen=True)
class Streams:
    """Sizes of a measurement: B cameras, T frames of a sliding clip, and the side of the frames."""

    batch: int
    frames: int
    size: int


def measure_streams(
    backbones: Sequence[str] = BACKBONES,
    *,
    families: Sequence[str] = FAMILIES,
    batches: Sequence[int] = (1, 8),
    frames: int = 8,
    size: int = 224,
    forms: Sequence[str] = tuple(FORMS),
    rounds: int = 100,
    progress: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Times a step of every network, alternating with the others of its backbone.

    Args:
        backbones: Names of backbones.
        families: Temporal modules; the plain backbone is always added.
        batches: Numbers of cameras.
        frames: T of the sliding clip.
        size: Side of the frames in pixels.
        forms: Names from `FORMS` to compare with the plain one.
        rounds: Timed steps for one camera; fewer for several.
        progress: Called with a description of the next step.
    """
    for form in forms:
        if form not in FORMS:
            raise OptionError(f"Unknown form {form!r}. " + did_you_mean(form, FORMS))
    torch.manual_seed(0)
    rows = []
    for backbone in backbones:
        nets = [
            create_model(f"{family}_{backbone}", classes=27, frames=frames, causal=True).eval()
            for family in dict.fromkeys((BASE, *families))
        ]
        for batch in batches:
            progress(f"{backbone}, {batch} cameras")
            few = max(3, rounds // batch)
            rows += _rows(nets, forms, Streams(batch, frames, size), few)
    settings = {
        "batches": list(batches),
        "frames": frames,
        "size": size,
        "rounds": rounds,
        "backend": backend_name("cpu"),
    }
    return Measurement("stream", settings, rows, NOTES)


def _rows(
    nets: Sequence[VideoNetwork], forms: Sequence[str], streams: Streams, rounds: int
) -> list[dict[str, Any]]:
    rows = []
    for form in (PLAIN, *forms):
        steps = alternate(
            {net.name: _step(net, form, streams) for net in nets}, rounds=rounds, warmup=3
        )
        sliding = alternate(
            {net.name: _sliding(net, form, streams) for net in nets},
            rounds=max(2, rounds // SLIDING_SHARE),
        )
        rows += [
            {
                "model": name,
                "cameras": streams.batch,
                "form": form,
                "frames_per_s": round(streams.batch / step.seconds, 1),
                "p50_ms": round(1e3 * step.seconds, 2),
                "p99_ms": round(1e3 * step.p99, 2),
                "spread": round(step.spread, 3),
                "ratio": round(step.seconds / steps[nets[0].name].seconds, 3),
                "sliding_ms": round(1e3 * sliding[name].seconds, 1),
                "gain": round(sliding[name].seconds / step.seconds, 2),
            }
            for name, step in steps.items()
        ]
    return rows


def _step(net: VideoNetwork, form: str, streams: Streams) -> Callable[[], Any]:
    frames = torch.randn(streams.batch, 3, streams.size, streams.size)
    step: Step
    if form == PLAIN:
        step = net.lay_out_weights().streaming(streams.batch)
    else:
        keep_freed_memory()
        step = build_step(net, FORMS[form], frames)
    state: State = ()

    @torch.inference_mode()
    def run() -> torch.Tensor:
        nonlocal state
        scores, state = step.advance(frames, state)
        return scores

    return run


def _sliding(net: VideoNetwork, form: str, streams: Streams) -> Callable[[], Any]:
    clips = torch.randn(streams.batch, streams.frames, 3, streams.size, streams.size)
    if form != PLAIN:
        return partial(build_run(net, FORMS[form], clips), clips)

    @torch.inference_mode()
    def score() -> torch.Tensor:
        scores: torch.Tensor = net(clips)
        return scores

    return score
