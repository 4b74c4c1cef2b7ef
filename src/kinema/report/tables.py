"""Result tables for the terminal, and CSV files."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kinema.notebook import percent as percent  # noqa: PLC0414 - exported with the tables
from kinema.system.files import whole_file
from kinema.system.text import visible
from kinema.values import Prediction, Report

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # and the full-width ones
TOP = 5  # with that few classes, top-5 is always 100 %


class _Table(Table):
    """Table whose columns have the width of the text as the console shows it."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        super().add_row(*map(_shown, cells), **options)


def _shown(cell: RenderableType | None) -> RenderableType | None:
    if isinstance(cell, str):
        return visible(cell)
    if isinstance(cell, Text) and cell.plain != visible(cell.plain):
        return Text(visible(cell.plain), style=cell.style)
    return cell


def table_of(*columns: str, title: str | None = None) -> Table:
    """Empty table; a column whose name begins with > is aligned to the right."""
    table = _Table(title=title)
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(name, justify="left" if name == column else "right")
    return table


def summary_table(report: Report) -> Table:
    """Table of the main numbers of an evaluation."""
    columns = (">videos", ">clips x crops", ">top-1", ">top-5", ">mean class", ">skipped")
    table = table_of(*columns, title="Result")
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
    """Table of the accuracy of each class that has videos."""
    present = [result for result in report.per_class if result.videos]
    title = "Accuracy by class"
    if len(present) < len(report.per_class):
        title += f" ({len(present)} of {len(report.per_class)} have videos)"
    table = table_of("class", ">videos", ">correct", ">accuracy", title=title)
    for result in present:
        table.add_row(
            Text(result.name), str(result.videos), str(result.correct), percent(result.accuracy)
        )
    return table


def prediction_table(outcomes: Sequence[tuple[str, Prediction | str]]) -> Table:
    """Table of the most probable classes per video, without unreadable ones.

    Args:
        outcomes: Pairs of path and prediction, or reason that the video is unreadable.
    """
    table = table_of("video", "class", ">probability")
    table.show_lines = len(outcomes) > 1
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
    numbers = {k for k in rows[0] if any(isinstance(row[k], int | float) for row in rows)}
    table = table_of(*(f"{'>' if k in numbers else ''}{k.replace('_', ' ')}" for k in rows[0]))
    for row in rows:
        table.add_row(*("-" if row[key] is None else str(row[key]) for key in rows[0]))
    return table


def write_per_class_csv(report: Report, path: Path) -> None:
    """Writes a row per class: label, name, videos, correct, accuracy (empty without videos)."""
    rows = [
        (c.label, c.name, c.videos, c.correct, "" if c.accuracy is None else f"{c.accuracy:.6f}")
        for c in report.per_class
    ]
    write_csv(path, ("label", "name", "videos", "correct", "accuracy"), rows)


def write_confusion_csv(report: Report, path: Path) -> None:
    """Writes numbers of videos; rows are true classes, columns predicted ones."""
    counts = zip(report.class_names, report.confusion.tolist(), strict=True)
    rows = [(name, *row) for name, row in counts]
    write_csv(path, ("true \\ predicted", *report.class_names), rows)


def write_rows_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes a column per key of the first row; None becomes an empty cell."""
    write_csv(path, list(rows[0]), [[row[key] for key in rows[0]] for row in rows])


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a CSV file atomically, without cells that a spreadsheet would take for a formula."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for row in (header, *rows):
            writer.writerow([_cell(value) for value in row])


def _cell(value: Any) -> Any:
    """Puts an apostrophe before text such as "=1+1", which spreadsheets then show as text."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
