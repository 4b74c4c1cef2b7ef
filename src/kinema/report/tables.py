"""Result tables for the terminal, and CSV files."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from kinema.values import Prediction, Report

TOP = 5  # with that few classes, top-5 is always 100 %


def summary_table(report: Report) -> Table:
    """Table of the main numbers of an evaluation."""
    table = Table(title="Result")
    for column in ("videos", "clips x crops", "top-1", "top-5", "mean class", "skipped"):
        table.add_column(column, justify="right")
    table.add_row(
        str(report.videos),
        f"{report.views.clips} x {report.views.crops}",
        percent(report.top1),
        percent(report.top5) if len(report.class_names) > TOP else "-",
        percent(report.mean_class),
        str(len(report.skipped)),
    )
    return table


def per_class_table(report: Report) -> Table:
    """Table of the accuracy per class."""
    table = Table("class", title="Accuracy by class")
    for column in ("videos", "correct", "accuracy"):
        table.add_column(column, justify="right")
    for result in report.per_class:
        table.add_row(
            Text(result.name), str(result.videos), str(result.correct), percent(result.accuracy)
        )
    return table


def prediction_table(outcomes: Sequence[tuple[str, Prediction | str]]) -> Table:
    """Table of the most probable classes per video, without unreadable ones.

    Args:
        outcomes: Pairs of path and prediction, or reason that the video is unreadable.
    """
    table = Table("video", "class", show_lines=len(outcomes) > 1)
    table.add_column("probability", justify="right")
    for path, outcome in outcomes:
        if isinstance(outcome, str):
            table.add_row(Text(path), Text("cannot be read", style="red"), "")
        else:
            names = "\n".join(c.name for c in outcome.top)
            probs = "\n".join(f"{100 * c.prob:.1f} %" for c in outcome.top)
            table.add_row(Text(path), Text(names), probs)
    return table


def rows_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Table of a measurement, a column per key, with right-aligned numbers."""
    table = Table()
    for key in rows[0]:
        numbers = any(isinstance(row[key], int | float) for row in rows)
        table.add_column(key.replace("_", " "), justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*("-" if row[key] is None else str(row[key]) for key in rows[0]))
    return table


def write_per_class_csv(report: Report, path: Path) -> None:
    """Writes a row per class: label, name, videos, correct, accuracy (empty without videos)."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "name", "videos", "correct", "accuracy"])
        for result in report.per_class:
            accuracy = "" if result.accuracy is None else f"{result.accuracy:.6f}"
            writer.writerow([result.label, result.name, result.videos, result.correct, accuracy])


def write_confusion_csv(report: Report, path: Path) -> None:
    """Writes numbers of videos; rows are true classes, columns predicted ones."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ predicted", *report.class_names])
        for name, row in zip(report.class_names, report.confusion, strict=True):
            writer.writerow([name, *row.tolist()])


def write_rows_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes a column per key of the first row; None becomes an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def percent(share: float | None) -> str:
    """Formats 0.5 as "50.00 %" and None as a dash."""
    return "-" if share is None else f"{100 * share:.2f} %"
