"""`kinema ensemble`: fuses score files, or averages accuracies over splits."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from kinema.cli.console import JsonOption, print_json, results
from kinema.cli.output import ScoresOption, SubmissionFormOption, SubmissionOption, score_files

if TYPE_CHECKING:
    from kinema.evaluation.ensemble import Average, Ensemble, MeanOverSplits


def ensemble(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Score files of the same videos or, with --splits, of each split.",
            metavar="SCORES...",
        ),
    ],
    splits: Annotated[
        bool,
        typer.Option(
            "--splits",
            help="Average the accuracies of splits (UCF101, HMDB51) instead of fusing scores.",
        ),
    ] = False,
    weights: Annotated[
        str | None, typer.Option(help="One per file, such as 2,1.", show_default="equal")
    ] = None,
    average: Annotated[
        str, typer.Option(help="Average probs or scores (before softmax).")
    ] = "probs",
    scores: ScoresOption = None,
    submission: SubmissionOption = None,
    form: SubmissionFormOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fuse the score files of several networks, frame rates or streams.

    With --splits: mean and standard deviation of the accuracies over splits.

    Example: kinema ensemble tei16.npz tei8.npz --weights 2,1
    """
    if splits:
        _check_no_fusing({"--weights": weights, "--scores": scores, "--submission": submission})
        _average_splits(files, as_json=as_json)
        return
    if average not in ("probs", "scores"):
        raise typer.BadParameter(
            f"expected probs or scores, got {average!r}", param_hint="--average"
        )
    shares = _numbers(weights)
    written = score_files(scores, submission, form, annotations=None)
    from kinema.evaluation.ensemble import fuse_scores

    fused = fuse_scores(files, weights=shares, average=cast("Average", average))
    written.write(fused.report)
    if as_json:
        print_json(_document(fused))
    else:
        _print(fused)


def _check_no_fusing(options: Mapping[str, object]) -> None:
    for option, value in options.items():
        if value is not None:
            raise typer.BadParameter("--splits fuses no scores", param_hint=option)


def _average_splits(files: list[Path], *, as_json: bool) -> None:
    from kinema.evaluation.ensemble import average_splits

    averaged = average_splits(files)
    if as_json:
        rows = [
            {"file": file, "videos": r.videos, "top1": r.top1, "top5": r.top5}
            | {"mean_class": r.mean_class}
            for file, r in zip(averaged.files, averaged.reports, strict=True)
        ]
        print_json({**averaged.mean, "deviation": averaged.deviation, "splits": rows})
    else:
        _print_splits(averaged)


def _print_splits(averaged: "MeanOverSplits") -> None:
    from rich.table import Table
    from rich.text import Text

    from kinema.report.tables import percent

    table = Table("split")
    for column in ("videos", "top-1", "top-5", "mean class"):
        table.add_column(column, justify="right")
    for file, report in zip(averaged.files, averaged.reports, strict=True):
        accuracies = (percent(a) for a in (report.top1, report.top5, report.mean_class))
        table.add_row(Text(file), str(report.videos), *accuracies)
    table.add_section()
    spread = (f"{percent(m)} ± {percent(averaged.deviation[k])}" for k, m in averaged.mean.items())
    table.add_row("mean ± deviation", "", *spread)
    results().print(table)


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            f"expected numbers such as 2,1, got {text!r}", param_hint="--weights"
        ) from error


def _document(fused: "Ensemble") -> dict[str, object]:
    report = fused.report
    return {
        "top1": report.top1,
        "top5": report.top5,
        "mean_class": report.mean_class,
        "videos": report.videos,
        "members": [
            {
                "file": member.file,
                "weight": member.weight,
                "top1": member.report.top1,
                "top5": member.report.top5,
            }
            for member in fused.members
        ],
    }


def _print(fused: "Ensemble") -> None:
    from rich.table import Table
    from rich.text import Text

    from kinema.report.tables import percent

    table = Table("scores")
    for column in ("weight", "top-1", "top-5", "mean class"):
        table.add_column(column, justify="right")
    rows = [(m.file, f"{m.weight:.3f}", m.report) for m in fused.members]
    for name, weight, report in (*rows, ("together", "", fused.report)):
        accuracies = (percent(a) for a in (report.top1, report.top5, report.mean_class))
        table.add_row(Text(name), weight, *accuracies)
    results().print(table)
