"""The quick start: trains a network without and one with temporal modules, writes a report."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kinema.data.annotations import read_annotations
from kinema.data.dataset import VideoDataset
from kinema.data.sampling import SegmentSampling
from kinema.errors import OptionError
from kinema.evaluation.evaluate import evaluate
from kinema.evaluation.metrics import group_accuracy
from kinema.recognizer import Recognizer
from kinema.report.html_page import (
    PredictionSection,
    QuickstartPage,
    RunSection,
    SampleStrip,
    write_report,
)
from kinema.report.plots import draw_class_bars, draw_confusion, draw_curves, draw_frames
from kinema.synthetic.motion import MOTION_CLASSES, REVERSED_PAIRS
from kinema.system.machine import run_facts
from kinema.train.loop import train
from kinema.train.recipe import SHIPPED, load_recipe
from kinema.values import Prediction, Report
from kinema.video.decode import open_source

# Temporal family -> its description in the report.
NETWORKS = {
    "tsn": "looks at every frame by itself",
    "tsm": "shifts part of its features to the neighboring frames",
}
# Class of the video that is predicted.
TRUE_CLASS = MOTION_CLASSES[0]


@dataclass(frozen=True)
class TrainedNetwork:
    """One trained network of the quick start with its validation report."""

    run: Path
    about: str
    train_s: float
    epochs: int
    recognizer: Recognizer
    report: Report

    @property
    def name(self) -> str:
        """Name of the network."""
        return self.recognizer.net.name

    @property
    def top1(self) -> float:
        """Top-1 accuracy on the validation videos, 0 to 1."""
        return self.report.top1 or 0.0

    @cached_property
    def pair_top1(self) -> float:
        """Fraction of videos predicted as their class or its reverse, 0 to 1."""
        pair = {name: number for number, names in enumerate(REVERSED_PAIRS) for name in names}
        return group_accuracy(
            self.report.confusion, [pair[name] for name in self.report.class_names]
        )


def train_network(
    temporal: str, videos: Path, run: Path, overrides: Sequence[str] = ()
) -> TrainedNetwork:
    """Trains a network with the quick start's recipe and evaluates its last epoch.

    Args:
        temporal: A key of `NETWORKS`.
        videos: Folder of the motion set.
        run: Run folder; an interrupted run in it is resumed.
        overrides: `key=value` words that change the recipe.
    """
    recipe = load_recipe(
        SHIPPED / "quickstart.toml",
        [
            f"model.temporal={temporal}",
            f"data.train={videos / 'train.csv'}",
            f"data.val={videos / 'val.csv'}",
            f"data.root={videos / 'videos'}",
            f"data.classes={videos / 'classes.txt'}",
            *overrides,
        ],
    )
    if recipe.train.keep == "best":
        raise OptionError(
            'The quick start evaluates the last network: set train.keep to "last" or "both".'
        )
    result = train(recipe, out=run, resume=(run / "recipe.toml").exists())
    recognizer = Recognizer.load(run / "last")
    rows = read_annotations(videos / "val.csv", classes=recognizer.labels)
    dataset = VideoDataset(rows, videos / "videos", recognizer.preprocessing)
    report = evaluate(recognizer.net, dataset, batch_views=16, workers=recipe.data.workers)
    draw_curves(run / "metrics.jsonl", run / "curves.png")
    draw_confusion(report, run / "confusion.png")
    return TrainedNetwork(
        run, NETWORKS[temporal], result.train_s, result.epochs, recognizer, report
    )


def predict_first(trained: TrainedNetwork, videos: Path) -> Prediction:
    """Predicts the first validation video of `TRUE_CLASS`."""
    path = videos / "videos" / TRUE_CLASS / "val_0000.mp4"
    return trained.recognizer.predict(path, top=5)


def write_page(
    out: Path, trained: Sequence[TrainedNetwork], prediction: Prediction, videos: Path
) -> Path:
    """Writes the report with curves, confusion matrices, sample frames and the prediction.

    Args:
        out: HTML file to write.
        trained: The networks; the last one made the prediction.
        prediction: Result of `predict_first`.
        videos: Folder of the motion set.
    """
    best = trained[-1]
    run, data = shlex.quote(str(best.run)), shlex.quote(str(videos))
    page = QuickstartPage(
        runs=[
            RunSection(
                name=t.name,
                about=t.about,
                top1=t.top1,
                pair_top1=t.pair_top1,
                train_s=t.train_s,
                epochs=t.epochs,
                params=sum(p.numel() for p in t.recognizer.net.parameters()),
                curves_png=draw_curves(t.run / "metrics.jsonl", title=t.name),
                confusion_png=draw_confusion(t.report, title=t.name),
            )
            for t in trained
        ],
        pairs=[(_sample(videos, one), _sample(videos, other)) for one, other in REVERSED_PAIRS],
        bars_png=draw_class_bars({t.name: t.report for t in trained}),
        prediction=PredictionSection(
            path=prediction.path,
            network=best.name,
            truth=TRUE_CLASS,
            top=prediction.top,
            png=_strip(Path(prediction.path)),
        ),
        facts=_facts(),
        commands=[
            f"kinema predict {run}/last {data}/videos",
            f"kinema evaluate {run}/last --data {data}/val.csv --root {data}/videos",
            f"kinema train {run}/recipe.toml train.epochs=40 --out runs/longer",
            "kinema models",
        ],
    )
    return write_report(page, out)


def _sample(videos: Path, class_name: str) -> SampleStrip:
    return SampleStrip(class_name, _strip(videos / "videos" / class_name / "train_0000.mp4"))


def _strip(path: Path) -> bytes:
    """Eight evenly spaced frames of a video, as PNG."""
    with open_source(path) as source:
        return draw_frames(source.read(SegmentSampling(8).test(source.info.frames, 1)[0]))


def _facts() -> dict[str, str]:
    facts: dict[str, Any] = run_facts()
    machine, versions = facts["machine"], facts["versions"]
    return {
        "Processor": f"{machine['cpu']}, {machine['cores']} cores",
        "Memory": f"{machine['memory_gb'] or '?'} GB",
        "GPU": ", ".join(machine["gpus"]) or "none",
        "Versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }
