"""`kinema quickstart`: the main job, end to end, on videos rendered on the spot."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from kinema.cli.console import (
    JsonOption,
    notes,
    print_json,
    progress_bar,
    results,
    resume_hint,
    show_log,
)
from kinema.errors import KinemaError, OptionError

if TYPE_CHECKING:
    from kinema.recognizer import Recognizer
    from kinema.values import Prediction, Report

NETWORKS = {
    "tsn": "looks at every frame by itself",
    "tsm": "shifts part of its features to the neighboring frames",
}
PAGE = "report.html"


@dataclass(frozen=True)
class _Trained:
    """One network of the quick start."""

    run: Path
    about: str
    train_s: float
    epochs: int
    recognizer: "Recognizer"
    report: "Report"

    @property
    def top1(self) -> float:
        return self.report.top1 or 0.0


def quickstart(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for everything; runs/quickstart when not given."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings to change, such as train.epochs=2.", metavar="KEY=VALUE"),
    ] = None,
    train: Annotated[int, typer.Option(help="Training videos per class.", min=1)] = 80,
    val: Annotated[int, typer.Option(help="Validation videos per class.", min=1)] = 20,
    as_json: JsonOption = False,
) -> None:
    """Render videos, train a network without and one with a temporal module, compare them.

    Takes a few minutes on two cores. An interrupted quick start goes on where it was when it is
    started again with the same folder.

    Example: kinema quickstart --out runs/first
    """
    from kinema.synthetic.motion_set import MotionSettings, render_motion_set

    folder = _folder(out)
    show_log()
    with resume_hint("the same command"):
        _say(1, f"Rendering videos into {folder / 'motion'}")
        settings = MotionSettings(train_per_class=train, val_per_class=val)
        with progress_bar("rendering") as progress:
            videos = render_motion_set(folder / "motion", settings=settings, progress=progress)
        trained = []
        for number, (name, about) in enumerate(NETWORKS.items(), start=2):
            _say(number, f"Training {name.upper()}, which {about}")
            trained.append(_train(name, about, videos, folder / name, overrides or []))
        _say(4, "Predicting one clip and writing the report")
        prediction, truth = _predict(trained[-1], videos)
        page = _write_page(folder, trained, prediction, truth, videos)
    if as_json:
        print_json(_document(trained, prediction, page))
    else:
        _print(trained, prediction, truth, page)


def _say(step: int, what: str) -> None:
    notes().print(Text.assemble((f"{step}/4 ", "bold"), what), soft_wrap=True)


def _folder(out: Path | None) -> Path:
    """The folder of this quick start; a finished one is never overwritten."""
    if out is not None:
        if (out / PAGE).exists():
            raise KinemaError(
                f"{out} holds a finished quick start ({out / PAGE}). Choose another --out."
            )
        return out
    first = Path("runs") / "quickstart"
    number, folder = 1, first
    while (folder / PAGE).exists():
        number += 1
        folder = first.with_name(f"{first.name}-{number}")
    return folder


def _train(name: str, about: str, videos: Path, run: Path, overrides: list[str]) -> _Trained:
    """Trains by the embedded recipe and evaluates the last network."""
    from kinema.data.annotations import read_annotations
    from kinema.data.dataset import VideoDataset
    from kinema.evaluation.evaluate import evaluate
    from kinema.recognizer import Recognizer
    from kinema.report.plots import draw_confusion, draw_curves
    from kinema.train.loop import train
    from kinema.train.recipe import SHIPPED, load_recipe

    recipe = load_recipe(
        SHIPPED / "quickstart.toml",
        [
            f"model.temporal={name}",
            f"data.train={videos / 'train.csv'}",
            f"data.val={videos / 'val.csv'}",
            f"data.root={videos / 'videos'}",
            f"data.classes={videos / 'classes.txt'}",
            *overrides,
        ],
    )
    if recipe.train.keep == "best":
        raise OptionError('The last network is tested here: set train.keep to "last" or "both".')
    result = train(recipe, out=run, resume=(run / "recipe.toml").exists())
    recognizer = Recognizer.load(run / "last")
    rows = read_annotations(videos / "val.csv", classes=recognizer.labels)
    dataset = VideoDataset(rows, videos / "videos", recognizer.preprocessing)
    report = evaluate(recognizer.net, dataset, batch_views=16, workers=recipe.data.workers)
    draw_curves(run / "metrics.jsonl", run / "curves.png")
    draw_confusion(report, run / "confusion.png")
    return _Trained(run, about, result.train_s, result.epochs, recognizer, report)


def _predict(trained: _Trained, videos: Path) -> tuple["Prediction", str]:
    """The network's answer for the first validation video, and what it is."""
    from kinema.synthetic.motion import MOTION_CLASSES

    truth = MOTION_CLASSES[0]
    path = videos / "videos" / truth / "val_0000.mp4"
    return trained.recognizer.predict(path, top=5), truth


def _pair_top1(report: "Report") -> float:
    """Share of the videos for which the class or its reverse was named."""
    from kinema.evaluation.metrics import group_accuracy
    from kinema.synthetic.motion import REVERSED_PAIRS

    pair = {name: number for number, names in enumerate(REVERSED_PAIRS) for name in names}
    return group_accuracy(report.confusion, [pair[name] for name in report.class_names])


def _write_page(
    folder: Path, trained: list[_Trained], prediction: "Prediction", truth: str, videos: Path
) -> Path:
    from kinema.report.html_page import (
        PredictionSection,
        QuickstartPage,
        RunSection,
        SampleStrip,
        write_report,
    )
    from kinema.report.plots import draw_class_bars, draw_confusion, draw_curves
    from kinema.synthetic.motion import REVERSED_PAIRS

    def sample(class_name: str) -> SampleStrip:
        return SampleStrip(class_name, _strip(videos / "videos" / class_name / "train_0000.mp4"))

    best = trained[-1]
    run, data = shlex.quote(str(best.run)), shlex.quote(str(videos))
    page = QuickstartPage(
        runs=[
            RunSection(
                name=t.recognizer.net.name,
                about=t.about,
                top1=t.top1,
                pair_top1=_pair_top1(t.report),
                train_s=t.train_s,
                epochs=t.epochs,
                params=sum(p.numel() for p in t.recognizer.net.parameters()),
                curves_png=draw_curves(t.run / "metrics.jsonl", title=t.recognizer.net.name),
                confusion_png=draw_confusion(t.report, title=t.recognizer.net.name),
            )
            for t in trained
        ],
        pairs=[(sample(there), sample(back)) for there, back in REVERSED_PAIRS],
        bars_png=draw_class_bars({t.recognizer.net.name: t.report for t in trained}),
        prediction=PredictionSection(
            path=prediction.path,
            network=best.recognizer.net.name,
            truth=truth,
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
    return write_report(page, folder / PAGE)


def _strip(path: Path) -> bytes:
    """Eight frames of a video, evenly spread."""
    from kinema.data.sampling import SegmentSampling
    from kinema.report.plots import draw_frames
    from kinema.video.decode import open_source

    with open_source(path) as source:
        return draw_frames(source.read(SegmentSampling(8).test(source.info.frames, 1)[0]))


def _facts() -> dict[str, str]:
    from kinema.system.machine import run_facts

    facts: dict[str, Any] = run_facts()
    machine, versions = facts["machine"], facts["versions"]
    return {
        "Processor": f"{machine['cpu']}, {machine['cores']} cores",
        "Memory": f"{machine['memory_gb'] or '?'} GB",
        "GPU": ", ".join(machine["gpus"]) or "none",
        "Versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }


def _document(trained: list[_Trained], prediction: "Prediction", page: Path) -> dict[str, object]:
    return {
        "runs": [
            {
                "model": t.recognizer.net.name,
                "top1": t.top1,
                "pair_top1": _pair_top1(t.report),
                "train_s": round(t.train_s, 1),
            }
            for t in trained
        ],
        "prediction": {
            "path": prediction.path,
            "top": [{"label": c.label, "name": c.name, "prob": c.prob} for c in prediction.top],
        },
        "report": str(page),
    }


def _print(trained: list[_Trained], prediction: "Prediction", truth: str, page: Path) -> None:
    from rich.table import Table

    table = Table("network", "top-1", "right pair", "training", title="Validation accuracy")
    for t in trained:
        table.add_row(
            t.recognizer.net.name,
            f"{100 * t.top1:.1f} %",
            f"{100 * _pair_top1(t.report):.1f} %",
            f"{t.train_s:.0f} s",
        )
    out = results()
    out.print(table)
    out.print(
        "Every class has a reverse: without the order of frames, half of the pair is a guess."
    )
    best = prediction.top[0]
    out.print(f"{prediction.path}: {best.name} ({100 * best.prob:.1f} %), truly {truth}")
    out.print(f"Report: {page}")
