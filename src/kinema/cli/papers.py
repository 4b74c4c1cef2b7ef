"""`kinema papers`: what the papers print beside what is counted."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import JsonOption, print_json, progress_bar, results

if TYPE_CHECKING:
    from rich.table import Table

    from kinema.report.papers import Comparison, Figure
    from kinema.report.published import OpenPoint

# What each cell of a line says: figure, paper, counted, verdict, number of the note.
Line = tuple[str, str, str, str, str]


def papers(
    pattern: Annotated[str, typer.Argument(help="Shell pattern, such as 'tsm_*'.")] = "*",
    as_json: JsonOption = False,
) -> None:
    """Show the papers' parameters and GFLOPs beside the counted ones.

    A figure is met when the counted number rounds to it. Then follow the
    points that the papers leave open, and what kinema does about them.

    Example: kinema papers 'te?_*'
    """
    from kinema.report.papers import compare
    from kinema.report.published import open_points, published_rows

    rows = published_rows(pattern)
    with progress_bar("counting") as progress:
        comparisons = compare(rows, progress)
    points = open_points(pattern)
    if as_json:
        print_json(_document(comparisons, points))
    else:
        _print(comparisons, points)


def _document(
    comparisons: Sequence["Comparison"], points: Sequence["OpenPoint"]
) -> dict[str, object]:
    shown = ("model", "options", "frames", "size_px", "classes", "source")
    return {
        "rows": [
            {
                **{key: getattr(comparison.row, key) for key in shown},
                "our_reading": comparison.row.ours,
                "params": _figure(comparison.params, comparison.params.counted),
                "gflops": _figure(comparison.gflops, comparison.gflops.in_units),
                "ratio": _ratio(comparison),
                "gflops_by_rule": _by_rule(comparison),
                "note": comparison.row.note,
            }
            for comparison in comparisons
        ],
        "open_points": [asdict(point) for point in points],
    }


def _figure(figure: "Figure", counted: float) -> dict[str, object]:
    return {
        "published": figure.published,
        "counted": counted,
        "difference": figure.difference,
        "verdict": figure.verdict,
    }


def _ratio(comparison: "Comparison") -> dict[str, object] | None:
    if comparison.ratio is None:
        return None
    figure = _figure(comparison.ratio, comparison.ratio.in_units)
    return {"to": comparison.row.ratio_to, **figure}


def _by_rule(comparison: "Comparison") -> dict[str, object] | None:
    rule = comparison.row.rule
    if rule is None or comparison.by_rule is None:
        return None
    return {"rule": rule.text, **_figure(comparison.by_rule, comparison.by_rule.in_units)}


def _print(comparisons: Sequence["Comparison"], points: Sequence["OpenPoint"]) -> None:
    from rich.table import Table

    from kinema.report.papers import count_met

    out = results()
    notes: list[str] = []
    for source in dict.fromkeys(comparison.row.source for comparison in comparisons):
        out.print(source, style="bold")
        same = [comparison for comparison in comparisons if comparison.row.source == source]
        out.print(_source_table(same, notes))
        out.print()
    if notes:
        out.print("Notes", style="bold")
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(justify="right", width=2)
        for number, text in enumerate(notes, start=1):
            grid.add_row(str(number), text)
        out.print(grid)
        out.print()
    met, by_rule, printed = count_met(comparisons)
    more = f', {by_rule} more if counted in another way (the lines "or")' if by_rule else ""
    out.print(f"{met} of {printed} printed figures are met{more}.")
    out.print("GFLOPs of the papers are multiply-accumulates, as in `kinema describe`.")
    if points:
        out.print("\nWhat the papers leave open", style="bold")
        out.print(_points_table(points))


def _table() -> "Table":
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


def _source_table(comparisons: Sequence["Comparison"], notes: list[str]) -> "Table":
    """The rows of one source; new notes are added to `notes` and referred to by number."""
    from rich.text import Text

    from kinema.report.papers import MET

    table = _table()
    # Fixed widths keep the tables of all sources in line; together they fill 80 columns.
    table.add_column("network", width=23)
    table.add_column("clip", width=11)
    table.add_column("figure", width=6)
    table.add_column("paper", justify="right", width=6)
    table.add_column("counted", justify="right", width=8)
    table.add_column("verdict", width=11)
    table.add_column("", justify="right", width=2)
    for comparison in comparisons:
        row = comparison.row
        options = [f"  {key}={value}" for key, value in row.options.items()]
        clip = [f"{row.frames} x {row.size_px} px", f"{row.classes} classes"]
        figures, printed, counted, verdicts, numbers = zip(*_lines(comparison, notes), strict=True)
        table.add_row(
            "\n".join([row.model, *options]),
            "\n".join(clip if row.params or not (row.gflops or row.ratio) else clip[:1]),
            "\n".join(figures),
            "\n".join(printed),
            "\n".join(counted),
            Text("\n").join(Text(v, style="green" if v == MET else "yellow") for v in verdicts),
            "\n".join(numbers),
            style="" if row.ours else "dim",
        )
    return table


def _lines(comparison: "Comparison", notes: list[str]) -> list[Line]:
    """A line for each printed figure, and one for the other rule where ours does not meet it."""
    row = comparison.row
    both = (("params", comparison.params, "M"), ("GFLOPs", comparison.gflops, ""))
    lines = [
        _line(name, figure, unit)
        for name, figure, unit in both
        if figure.published or not (row.params or row.gflops or row.ratio)
    ]
    if comparison.ratio is not None:
        lines.append(_line("ratio", comparison.ratio, ""))
    note = row.note if row.ours else f"Another way to read the paper. {row.note}"
    if note:
        lines[0] = (*lines[0][:4], _number_of(note, notes))
    if row.rule is not None and comparison.by_rule is not None and not comparison.gflops.met:
        name, _, *rest, _ = _line("or", comparison.by_rule, "")
        lines.append((name, "", rest[0], rest[1], _number_of(row.rule.text, notes)))
    return lines


def _line(name: str, figure: "Figure", unit: str) -> Line:
    counted = f"{figure.in_units:.3f}{unit}"
    return name, figure.published or "-", counted, figure.verdict or "-", ""


def _number_of(note: str, notes: list[str]) -> str:
    if note not in notes:
        notes.append(note)
    return str(notes.index(note) + 1)


def _points_table(points: Sequence["OpenPoint"]) -> "Table":
    table = _table()
    table.add_column("", justify="right", width=2)
    table.add_column("point", max_width=26)
    table.add_column("decision")
    table.add_column("confidence", width=11)
    for point in points:
        table.add_row(str(point.number), point.point, point.decision, point.confidence)
    return table
