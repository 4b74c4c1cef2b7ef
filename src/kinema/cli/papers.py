"""`kinema papers`: what the papers print beside what is counted, and beside own results."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import JsonOption, notes, print_json, progress_bar, results

if TYPE_CHECKING:
    from rich.table import Table

    from kinema.report.accuracies import Accuracy
    from kinema.report.against import Beside
    from kinema.report.papers import Comparison, Figure
    from kinema.report.published import OpenPoint

# What each cell of a line says: figure, paper, counted, verdict, number of the note.
Line = tuple[str, str, str, str, str]


def papers(
    pattern: Annotated[str, typer.Argument(help="Shell pattern, such as 'tsm_*'.")] = "*",
    accuracies: Annotated[
        bool,
        typer.Option(
            "--accuracies",
            help="Show the printed accuracies with their settings; implied by the options below.",
        ),
    ] = False,
    paper: Annotated[
        str | None, typer.Option(help="Rows of one paper: tea, tei, gte, tsi or tam.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Rows of one data set, such as something_v1.")
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(
            help="Rows with clips of this many frames, such as 8, or 16+8 for an ensemble."
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Own results to set beside the printed ones: the JSON document of `kinema "
            "evaluate` or results.json of `kinema sweep`, or the folder with it."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the papers' parameters and GFLOPs beside the counted ones, or their accuracies.

    A figure is met when the counted number rounds to it. Then follow the
    points that the papers leave open, and what kinema does about them.
    With a question, such as --paper tei --dataset something_v1, every row that
    the papers print is shown with its setting.

    Example: kinema papers 'te?_*'
    """
    if accuracies or against or (paper, dataset, frames) != (None, None, None):
        from kinema.report.accuracies import printed_accuracies

        rows = printed_accuracies(pattern, paper=paper, dataset=dataset, frames=frames)
        if against is None:
            _show_accuracies(rows, as_json=as_json)
        else:
            _show_against(against, rows, as_json=as_json)
        return
    from kinema.report.papers import compare
    from kinema.report.published import open_points, published_rows

    printed = published_rows(pattern)
    with progress_bar("counting") as progress:
        comparisons = compare(printed, progress)
    points = open_points(pattern)
    if as_json:
        print_json(_document(comparisons, points))
    else:
        _print(comparisons, points)


def _show_accuracies(rows: Sequence["Accuracy"], *, as_json: bool) -> None:
    if as_json:
        print_json({"rows": [asdict(row) for row in rows]})
        return
    out = results()
    remarks: list[str] = []
    for title, of_table in groupby(rows, _title):
        out.print(title, style="bold")
        out.print(_accuracy_table(of_table, remarks))
        out.print()
    _print_notes(remarks)
    out.print(f"{len(rows)} rows. A dash stands for what the paper does not state.")


def _title(row: "Accuracy") -> str:
    return ", ".join(part for part in (row.source, row.dataset, row.split) if part)


def _accuracy_table(rows: Iterable["Accuracy"], remarks: list[str]) -> "Table":
    """The rows of one table of a paper, 100 columns wide; new notes are added to `remarks`."""
    from rich.text import Text

    table = _table()
    table.add_column("row", width=38)
    table.add_column("backbone, weights", width=18)
    for name in ("frames", "views", "GFLOPs", "top-1", "top-5"):
        table.add_column(name, justify="right", width=len(name))
    table.add_column("", justify="right", width=3)
    for row in rows:
        lines = [row.method, *(f"  {line}" for line in _details(row))]
        text = "; ".join(part for part in (row.note, row.hardware) if part)
        table.add_row(
            Text("\n".join(lines)),
            "\n".join(part for part in (row.backbone, row.pretrain) if part) or "-",
            row.frames or "-",
            _views(row),
            *("-" if cell is None else str(cell) for cell in (row.gflops, row.top1, row.top5)),
            _number_of(text, remarks) if text else "",
        )
    return table


def _views(row: "Accuracy") -> str:
    """Clips x crops, such as "10x3"."""
    if row.clips is row.crops is None:
        return "-"
    return f"{row.clips or '?'}x{row.crops or '?'}"


def _details(row: "Accuracy") -> list[str]:
    """Variant, network of kinema and further figures of a row, a line each."""
    options = (f"{key}={value}" for key, value in row.options.items())
    figures = (
        (row.params_m, "M"),
        (row.latency_ms, " ms"),
        (row.videos_per_s, " videos/s"),
    )
    lines = [
        row.config,
        " ".join((row.network or "", *options)),
        ", ".join(f"{value}{unit}" for value, unit in figures if value is not None),
    ]
    return [line for line in lines if line]


def _show_against(path: Path, rows: Sequence["Accuracy"], *, as_json: bool) -> None:
    from kinema.report.against import beside_printed, own_results

    own = own_results(path)
    pairs = beside_printed(own, rows)
    without = [result.name for result in own if all(result != pair.own for pair in pairs)]
    if without:
        notes().print(f"Without a printed row: {', '.join(without)}")
    if as_json:
        print_json({"rows": [{**asdict(pair), "points": pair.points} for pair in pairs]})
        return
    out = results()
    by_table = sorted(pairs, key=lambda pair: rows.index(pair.row))
    for title, of_table in groupby(by_table, lambda pair: _title(pair.row)):
        out.print(title, style="bold")
        out.print(_against_table(of_table))
        out.print()
    out.print(
        "Of every own result, the rows of its network that differ in the fewest settings.\n"
        "Points above the paper are given only for equal settings; pretraining, split and crop\n"
        "sizes are not compared, and what a paper does not state counts as equal."
    )


def _against_table(pairs: Iterable["Beside"]) -> "Table":
    """The printed rows of one table with the own results, 100 columns wide."""
    table = _table()
    table.add_column("own result", width=18)
    for name in ("top-1", "printed", "points"):
        table.add_column(name, justify="right", width=len(name))
    table.add_column("row", width=22)
    table.add_column("own settings that differ", width=30)
    for pair in pairs:
        row = pair.row
        table.add_row(
            pair.own.name,
            f"{pair.own.top1:.1f}",
            str(row.top1),
            "-" if pair.points is None else f"{pair.points:+.1f}",
            f"{row.method}\n{row.frames or '?'} frames, {_views(row)}",
            "\n".join(pair.differing) or "none",
        )
    return table


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
    from kinema.report.papers import count_met

    out = results()
    remarks: list[str] = []
    for source in dict.fromkeys(comparison.row.source for comparison in comparisons):
        out.print(source, style="bold")
        same = [comparison for comparison in comparisons if comparison.row.source == source]
        out.print(_source_table(same, remarks))
        out.print()
    _print_notes(remarks)
    met, by_rule, printed = count_met(comparisons)
    more = f', {by_rule} more if counted in another way (the lines "or")' if by_rule else ""
    out.print(f"{met} of {printed} printed figures are met{more}.")
    out.print("GFLOPs of the papers are multiply-accumulates, as in `kinema describe`.")
    if points:
        out.print("\nWhat the papers leave open", style="bold")
        out.print(_points_table(points))


def _print_notes(remarks: Sequence[str]) -> None:
    """Prints the remarks that tables refer to by number."""
    if not remarks:
        return
    from rich.table import Table

    out = results()
    out.print("Notes", style="bold")
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", width=max(2, len(str(len(remarks)))))
    for number, text in enumerate(remarks, start=1):
        grid.add_row(str(number), text)
    out.print(grid)
    out.print()


def _table() -> "Table":
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


def _source_table(comparisons: Sequence["Comparison"], remarks: list[str]) -> "Table":
    """The rows of one source; new notes are added to `remarks` and referred to by number."""
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
        figures, printed, counted, verdicts, numbers = zip(
            *_lines(comparison, remarks), strict=True
        )
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


def _lines(comparison: "Comparison", remarks: list[str]) -> list[Line]:
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
        lines[0] = (*lines[0][:4], _number_of(note, remarks))
    if row.rule is not None and comparison.by_rule is not None and not comparison.gflops.met:
        name, _, *rest, _ = _line("or", comparison.by_rule, "")
        lines.append((name, "", rest[0], rest[1], _number_of(row.rule.text, remarks)))
    return lines


def _line(name: str, figure: "Figure", unit: str) -> Line:
    counted = f"{figure.in_units:.3f}{unit}"
    return name, figure.published or "-", counted, figure.verdict or "-", ""


def _number_of(note: str, remarks: list[str]) -> str:
    if note not in remarks:
        remarks.append(note)
    return str(remarks.index(note) + 1)


def _points_table(points: Sequence["OpenPoint"]) -> "Table":
    table = _table()
    table.add_column("", justify="right", width=2)
    table.add_column("point", max_width=26)
    table.add_column("decision")
    table.add_column("confidence", width=11)
    for point in points:
        table.add_row(str(point.number), point.point, point.decision, point.confidence)
    return table
