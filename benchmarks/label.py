"""Labeling an archive on Ray, against one process that does nothing else."""

import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer

from kinema.archive.settings import ClusterSettings, LabelSettings
from kinema.archive.task import label
from kinema.bench.result import Measurement
from kinema.cli.bench import (
    FramesOption,
    NetworkOption,
    OutOption,
    RoundsOption,
    SizeOption,
    finish,
)
from kinema.cli.console import JsonOption, notes
from kinema.data.listing import list_videos
from kinema.inference.predict import ClipRecognizer
from kinema.models.saved import save
from kinema.models.zoo import create_model
from kinema.synthetic.motion_set import MotionSettings, render_motion_set
from kinema.values import Preprocessing

CLASSES = 400
SINGLE, LABEL = "one process, optimized", "kinema label"
NOTES = (
    "one process: Recognizer.load(fast=True).predict on one video after another, with all threads "
    "for decoding and network, timed after its first video",
    "videos_per_s of kinema label: from the moment when the first videos come to the network, of "
    "which some are then decoded, to the last row; whole_videos_per_s: from the call to the end, "
    "with the start of Ray and of all processes",
    "ratio: videos_per_s over that of one process; whole_ratio: the same of whole_videos_per_s",
)


def measure_label(
    source: Path | None = None,
    *,
    network: str = "tsm_resnet50",
    videos: int = 1000,
    preprocessing: Preprocessing | None = None,
    cluster: ClusterSettings | None = None,
    rounds: int = 3,
    progress: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Times both on the same videos, in turns.

    Args:
        source: Folder of videos; by default 28 of the synthetic motion set, 256 pixels wide.
        network: Its name; with random weights.
        videos: How many to label; those of the source are used again until there are enough.
        preprocessing: How a video becomes a clip.
        cluster: Workers and decoders.
        rounds: Times that each is timed; medians count.
        progress: Told what happens.

    Returns:
        A row for each, with videos per second.
    """
    torch.manual_seed(0)
    how, cluster = preprocessing or Preprocessing(), cluster or ClusterSettings()
    with TemporaryDirectory(prefix="kinema_bench_") as name:
        folder = Path(name)
        progress("preparing the videos")
        archive = _archive(folder, source, videos)
        checkpoint = folder / "checkpoint"
        net = create_model(network, classes=CLASSES, frames=how.frames)
        save(net, checkpoint, labels=[f"class {n}" for n in range(CLASSES)], preprocessing=how)
        single: list[float] = []
        steady: list[float] = []
        whole: list[float] = []
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}: one process")
            single.append(_single_rate(checkpoint, archive))
            progress(f"round {number + 1} of {rounds}: kinema label")
            out = folder / f"labels{number}"
            report = label(checkpoint, archive, out, LabelSettings(fast=True), cluster=cluster)
            steady.append(report.steady_videos_per_s or report.videos_per_s)
            whole.append(report.videos_per_s)
    settings = {
        "network": network,
        "videos": videos,
        "frames": how.frames,
        "crop_px": how.crop_px,
        "workers": cluster.workers,
        "decoders": cluster.decoders,
        "threads_of_worker": cluster.threads,
        "rounds": rounds,
    }
    return Measurement("label", settings, _rows(single, steady, whole), NOTES)


def _archive(folder: Path, source: Path | None, videos: int) -> Path:
    """A folder with so many different names of the videos."""
    if source is None:
        settings = MotionSettings(
            train_per_class=1, val_per_class=1, size_px=256, min_frames=64, max_frames=96
        )
        source = render_motion_set(folder / "motion", settings=settings, workers=0)
    archive = folder / "archive"
    archive.mkdir()
    found = list(list_videos([source]))
    for number, video in enumerate(islice(cycle(found), videos)):
        (archive / f"{number:06d}{video.suffix}").symlink_to(video.absolute())
    return archive


def _single_rate(checkpoint: Path, archive: Path) -> float:
    """Videos per second of `predict` after the first one, with which the form is chosen."""
    recognizer = ClipRecognizer.load(checkpoint, device="cpu", fast=True)
    first, *others = sorted(archive.iterdir())
    recognizer.predict(first)
    start = time.perf_counter()
    for video in others:
        recognizer.predict(video)
    return len(others) / (time.perf_counter() - start)


def _rows(single: list[float], steady: list[float], whole: list[float]) -> list[dict[str, Any]]:
    base = median(single)

    def row(form: str, rates: list[float], whole_rates: list[float]) -> dict[str, Any]:
        rate, whole_rate = median(rates), median(whole_rates)
        return {
            "form": form,
            "videos_per_s": round(rate, 3),
            "slowest": round(min(rates), 3),
            "ratio": round(rate / base, 3),
            "whole_videos_per_s": round(whole_rate, 3),
            "whole_ratio": round(whole_rate / base, 3),
        }

    return [row(SINGLE, single, single), row(LABEL, steady, whole)]


def main(
    source: Annotated[
        Path | None, typer.Argument(help="Folder of videos; by default rendered ones.")
    ] = None,
    network: NetworkOption = "tsm_resnet50",
    videos: Annotated[int, typer.Option(help="Videos to label.", min=2)] = 1000,
    workers: Annotated[int, typer.Option(help="Processes that run the network.", min=1)] = 2,
    decoders: Annotated[int, typer.Option(help="Processes that decode.", min=1)] = 1,
    frames: FramesOption = 8,
    size: SizeOption = 224,
    rounds: RoundsOption = 3,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time `kinema label` on this machine's CPU, against one process that does nothing else.

    Example: python -m benchmarks.label --network tsm_resnet18 --videos 400
    """

    measurement = measure_label(
        source,
        network=network,
        videos=videos,
        preprocessing=_preprocessing(frames, size),
        cluster=ClusterSettings(workers=workers, decoders=decoders, device="cpu"),
        rounds=rounds,
        progress=notes().print,
    )
    finish(measurement, out, as_json=as_json)


def _preprocessing(frames: int, size: int) -> Preprocessing:
    """Frames of the usual kind: a crop of seven eighths of the short side."""
    return Preprocessing(frames=frames, short_side_px=round(size * 8 / 7), crop_px=size)


if __name__ == "__main__":
    typer.run(main)
