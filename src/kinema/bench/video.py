"""Benchmark from a video file to its classes, against the model alone."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kinema.bench.result import Measurement
from kinema.bench.timing import alternate
from kinema.models.zoo import create_model
from kinema.recognizer import Recognizer
from kinema.values import Preprocessing

NOTES = (
    "ratio: time from the file to the named classes over the time of the model on a ready clip",
    "one clip and one crop, 8 frames, short side 256, crop 224",
)


def measure_video(
    video: Path,
    *,
    model: str = "tsm_resnet50",
    rounds: int = 15,
    progress: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Times `Recognizer.predict` on a file, plain and with `fast=True`.

    Raises:
        UnreadableVideoError: the video cannot be read.
    """
    torch.manual_seed(0)
    net = create_model(model, classes=400)
    how = Preprocessing(frames=net.frames, snippet=net.snippet)
    labels = tuple(f"class {number}" for number in range(400))
    runs: dict[str, Callable[[], Any]] = {}
    clip = torch.randn(1, how.clip_frames, 3, how.crop_px, how.crop_px)
    for form, fast in (("plain", False), ("fast", True)):
        progress(f"building the {form} form")
        recognizer = Recognizer(net, labels, how, device="cpu", fast=fast)
        recognizer.predict(video)  # the first clip selects the fast form
        runs[f"{form} model"] = partial(recognizer.score, clip)
        runs[f"{form} video"] = partial(recognizer.predict, video)
    progress("measuring")
    with torch.inference_mode():
        timings = alternate(runs, rounds=rounds)
    rows = [
        {
            "model": model,
            "form": form,
            "model_ms": round(1e3 * timings[f"{form} model"].seconds, 1),
            "video_ms": round(1e3 * timings[f"{form} video"].seconds, 1),
            "ratio": round(timings[f"{form} video"].seconds / timings[f"{form} model"].seconds, 3),
        }
        for form in ("plain", "fast")
    ]
    return Measurement("video", {"rounds": rounds, "file": video.name}, rows, NOTES)
