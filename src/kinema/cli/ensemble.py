"""`kinema ensemble`: fuses score files, or averages accuracies over splits."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from kinema.cli.console import JsonOption, parse_numbers, print_json, results
from kinema.cli.output import ScoresOption, SubmissionFormOption, SubmissionOption, score_files

if TYPE_CHECKING:
    from kinema.evaluation.ensemble import Average, Ensemble, MeanOverSplits
    from kinema.values import Report


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
        fusing = {"--weights": weights, "--scores": scores, "--submission": submission}
        for option, value in fusing.items():
            if value is not None:
                raise typer.BadParameter("--splits fuses no scores", param_hint=option)
        _average_splits(files, as_json=as_json)
        return
    if average not in ("probs", "scores"):
        raise typer.BadParameter(
            f"expected probs or scores, got {average!r}", param_hint="--average"
        )
    shares = None
    if weights is not None:
        shares = parse_numbers(weights, float, "--weights", wanted="numbers such as 2,1")
    written = score_files(scores, submission, form, annotations=None)
    from kinema.evaluation.ensemble import fuse_scores

    fused = fuse_scores(files, weights=shares, average=cast("Average", average))
    written.write(fused.report)
    if as_json:
        print_json(_document(fused))
    else:
        _print(fused)


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
    from kinema.report.tables import percent, table_of

    table = table_of("split", ">videos", ">top-1", ">top-5", ">mean class")
    for file, report in zip(averaged.files, averaged.reports, strict=True):
        table.add_row(file, str(report.videos), *_accuracies(report))
    table.add_section()
    spread = (f"{percent(m)} ± {percent(averaged.deviation[k])}" for k, m in averaged.mean.items())
    table.add_row("mean ± deviation", "", *spread)
    results().print(table)


def _document(fused: "Ensemble") -> dict[str, object]:
    report = fused.report
    return {
        "top1": report.top1,
        "top5": report.top5,
        "mean_class": report.mean_class,
        "videos": report.videos,
        "members": [
            {"file": m.file, "weight": m.weight, "top1": m.report.top1, "top5": m.report.top5}
            for m in fused.members
        ],
    }


def _print(fused: "Ensemble") -> None:
    from kinema.report.tables import table_of

    table = table_of("scores", ">weight", ">top-1", ">top-5", ">mean class")
    for member in fused.members:
        table.add_row(member.file, f"{member.weight:.3f}", *_accuracies(member.report))
    table.add_row("together", "", *_accuracies(fused.report))
    results().print(table)


def _accuracies(report: "Report") -> Iterator[str]:
    from kinema.report.tables import percent

    return map(percent, (report.top1, report.top5, report.mean_class))
