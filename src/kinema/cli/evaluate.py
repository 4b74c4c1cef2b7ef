"""`kinema evaluate`: a test protocol on annotated videos."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from kinema.cli.console import (
    ClipsOption,
    CropsOption,
    DeviceOption,
    FastOption,
    JsonOption,
    notes,
    print_json,
    progress_bar,
    results,
    show_log,
)
from kinema.cli.data import FormatOption
from kinema.errors import UnreadableVideoError

if TYPE_CHECKING:
    from kinema.evaluate import Precision
    from kinema.types import Report


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a network, such as runs/x/best.")],
    data: Annotated[Path, typer.Option(help="Annotation file.")],
    root: Annotated[
        Path | None, typer.Option(help="Folder of the videos; that of the annotations by default.")
    ] = None,
    format_: FormatOption = "csv",
    split: Annotated[int, typer.Option(help="Split of hmdb51.")] = 1,
    clips: ClipsOption = 1,
    crops: CropsOption = 1,
    full_resolution: Annotated[
        bool, typer.Option("--full-resolution", help="Crops take the whole short side.")
    ] = False,
    scores: Annotated[Path | None, typer.Option(help="Write all scores to this .npz file.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for per_class.csv, confusion.csv and confusion.png."),
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Count unreadable videos, do not stop.")
    ] = False,
    batch: Annotated[int, typer.Option(help="Views of one forward pass.", min=1)] = 8,
    workers: Annotated[int, typer.Option(help="Decoding processes.", min=0)] = 2,
    precision: Annotated[
        str | None, typer.Option(help="32 or bf16, or auto with --fast.", show_default=False)
    ] = None,
    fast: FastOption = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the accuracy of a network over clips and crops.

    Example: kinema evaluate runs/x/best --data val.csv --root videos --clips 10 --crops 3
    """
    precisions = ("32", "bf16", "auto") if fast else ("32", "bf16")
    if precision not in (None, *precisions):
        raise typer.BadParameter(
            f"expected {' or '.join(precisions)}, got {precision!r}", param_hint="--precision"
        )
    if scores is not None and scores.suffix != ".npz":
        raise typer.BadParameter(f"expected a name in .npz, got {scores}", param_hint="--scores")
    from kinema.data.annotations import read_annotations
    from kinema.data.dataset import VideoDataset
    from kinema.evaluate import evaluate as run_protocol
    from kinema.evaluate import save_scores
    from kinema.predict import Recognizer
    from kinema.types import Views

    views = Views(clips=clips, crops=crops, full_resolution=full_resolution)
    write_files = _file_writer(out)
    if fast:
        show_log()  # says what was chosen
    recogniser = Recognizer.load(checkpoint, device=device)
    folder = root or (data if data.is_dir() else data.parent)
    rows = read_annotations(
        data, format=format_, root=folder, classes=recogniser.labels, split=split, subset="test"
    )
    with _naming_the_option(skip_unreadable), progress_bar("evaluating") as progress:
        report = run_protocol(
            recogniser.net,
            VideoDataset(rows, folder, recogniser.preprocessing),
            views=views,
            batch_views=batch,
            workers=workers,
            unreadable="skip" if skip_unreadable else "error",
            precision=cast("Precision | None", precision),
            fast=fast,
            progress=progress,
        )
    if scores is not None:
        notes().print(f"Scores: {save_scores(report, scores)}")
    write_files(report)
    if as_json:
        print_json(_document(report))
    else:
        _print(report)


@contextmanager
def _naming_the_option(given: bool) -> Iterator[None]:
    """An unreadable video is an error that says with which option to go on, if not given."""
    try:
        yield
    except UnreadableVideoError as error:
        if given:
            raise
        raise UnreadableVideoError(f"{error} Here that is --skip-unreadable.") from error


def _file_writer(out: Path | None) -> Callable[["Report"], None]:
    """Writes the tables and the matrix; what it needs is looked for before the evaluation."""
    if out is None:
        return lambda report: None
    from kinema.report.figures import draw_confusion
    from kinema.report.tables import write_confusion_csv, write_per_class_csv

    def write(report: "Report") -> None:
        out.mkdir(parents=True, exist_ok=True)
        write_per_class_csv(report, out / "per_class.csv")
        write_confusion_csv(report, out / "confusion.csv")
        draw_confusion(report, out / "confusion.png")
        notes().print(f"Tables and confusion matrix: {out}")

    return write


def _document(report: "Report") -> dict[str, object]:
    return {
        "top1": report.top1,
        "top5": report.top5,
        "mean_class": report.mean_class,
        "videos": report.videos,
        "views": asdict(report.views),
        "skipped": [asdict(skipped) for skipped in report.skipped],
        "per_class": [
            {"name": c.name, "videos": c.videos, "accuracy": c.accuracy} for c in report.per_class
        ],
    }


def _print(report: "Report") -> None:
    from kinema.report.tables import per_class_table, summary_table

    out = results()
    out.print(per_class_table(report))
    out.print(summary_table(report))
    for skipped in report.skipped:
        notes().print(f"Skipped: {skipped.reason}", soft_wrap=True)
