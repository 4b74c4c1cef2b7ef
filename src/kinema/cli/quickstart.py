"""`kinema quickstart`: renders videos, trains two networks and compares them."""

from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from kinema.errors import KinemaError

if TYPE_CHECKING:
    from kinema.report.quickstart import TrainedNetwork
    from kinema.values import Prediction

PAGE = "report.html"


def quickstart(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for videos, runs and report; runs/quickstart by default."),
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

    Takes a few minutes on two cores. To resume after an interruption, run it again with the same
    folder.

    Example: kinema quickstart --out runs/first
    """
    from kinema.report.quickstart import NETWORKS, predict_first, train_network, write_page
    from kinema.synthetic.motion_set import MotionSettings, render_motion_set
    from kinema.system.threads import choose_threads

    folder = _new_folder(out)
    show_log()
    choose_threads(folder / next(iter(NETWORKS)) / "run.json")
    with resume_hint("the same command"):
        _say(1, f"Rendering videos into {folder / 'motion'}")
        settings = MotionSettings(train_per_class=train, val_per_class=val)
        with progress_bar("rendering") as progress:
            videos = render_motion_set(folder / "motion", settings=settings, progress=progress)
        trained = []
        for step, (temporal, about) in enumerate(NETWORKS.items(), start=2):
            _say(step, f"Training {temporal.upper()}, which {about}")
            trained.append(train_network(temporal, videos, folder / temporal, overrides or []))
        _say(4, "Predicting one clip and writing the report")
        prediction = predict_first(trained[-1], videos)
        page = write_page(folder / PAGE, trained, prediction, videos)
    if as_json:
        print_json(_document(trained, prediction, page))
    else:
        _print(trained, prediction, page)


def _say(step: int, message: str) -> None:
    notes().print(Text.assemble((f"{step}/4 ", "bold"), message), soft_wrap=True)


def _new_folder(out: Path | None) -> Path:
    """Folder of this quick start; a finished one is never overwritten."""
    if out is not None:
        if (out / PAGE).exists():
            raise KinemaError(
                f"{out} holds a finished quick start ({out / PAGE}). Choose another --out."
            )
        return out
    folders = (Path(f"runs/quickstart-{number}") for number in count(2))
    return next(f for f in chain([Path("runs/quickstart")], folders) if not (f / PAGE).exists())


def _document(
    trained: list["TrainedNetwork"], prediction: "Prediction", page: Path
) -> dict[str, object]:
    return {
        "runs": [
            {"model": t.name, "top1": t.top1, "pair_top1": t.pair_top1}
            | {"train_s": round(t.train_s, 1)}
            for t in trained
        ],
        "prediction": {"path": prediction.path, "top": [c.to_dict() for c in prediction.top]},
        "report": str(page),
    }


def _print(trained: list["TrainedNetwork"], prediction: "Prediction", page: Path) -> None:
    from rich.table import Table

    from kinema.report.quickstart import TRUE_CLASS

    table = Table("network", "top-1", "right pair", "training", title="Validation accuracy")
    for t in trained:
        table.add_row(
            t.name, f"{100 * t.top1:.1f} %", f"{100 * t.pair_top1:.1f} %", f"{t.train_s:.0f} s"
        )
    out = results()
    out.print(table)
    out.print("Every class has a reverse. Without the order of frames, each pair is a coin toss.")
    best = prediction.top[0]
    out.print(f"{prediction.path}: {best.name} ({100 * best.prob:.1f} %), truth: {TRUE_CLASS}")
    out.print(f"Report: {page}")
