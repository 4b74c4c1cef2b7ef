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
from kinema.report import html_page
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

    @property
    def params(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.recognizer.net.parameters())

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
    """Trains a network of `NETWORKS` with the quick start's recipe, evaluates its last epoch.

    `videos` is the folder of the motion set. An interrupted run in the folder `run` is resumed.
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
    """Writes the report, an HTML file, about networks of which the last made the prediction."""
    best = trained[-1]
    run, data = shlex.quote(str(best.run)), shlex.quote(str(videos))
    samples = videos / "videos"
    values = {
        "runs": trained,
        "pairs": [
            [(name, _strip(samples / name / "train_0000.mp4")) for name in pair]
            for pair in REVERSED_PAIRS
        ],
        "curves": {t.name: draw_curves(t.run / "metrics.jsonl", title=t.name) for t in trained},
        "confusions": {t.name: draw_confusion(t.report, title=t.name) for t in trained},
        "bars_png": draw_class_bars({t.name: t.report for t in trained}),
        "prediction": prediction,
        "prediction_png": _strip(Path(prediction.path)),
        "network": best.name,
        "truth": TRUE_CLASS,
        "facts": _facts(),
        "commands": [
            f"kinema predict {run}/last {data}/videos",
            f"kinema evaluate {run}/last --data {data}/val.csv --root {data}/videos",
            f"kinema train {run}/recipe.toml train.epochs=40 --out runs/longer",
            "kinema models",
        ],
    }
    return html_page.write_page("report.html", values, out)


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
