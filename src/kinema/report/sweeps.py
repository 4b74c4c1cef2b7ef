"""Table and plots of sweep results.

A `document` is what `kinema.sweep.summary.summarize` made. Plots are returned as PNG data, and also
written if a file `out` is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from kinema.errors import UnknownNameError, did_you_mean
from kinema.report.plots import DPI, Figure, legend_below, save_png
from kinema.report.point_labels import Mark, label_points
from kinema.report.tables import table_of

COLORS = ("#1f6feb", "#d9822b", "#2da44e", "#8250df", "#cf222e", "#6e7781", "#0a7ea4", "#bf8700")


def sweep_table(document: dict[str, Any]) -> Table:
    """Table of top-1 accuracy per variant and test, with parameters and GMACs."""
    tests = list(document["rows"][0]["tests"])
    columns = (f">{column}" for column in ("parameters", "GMACs", "training", *tests))
    table = table_of("variant", *columns, title=document["title"])
    for row in document["rows"]:
        table.add_row(
            Text(row["variant"]),
            f"{row['params'] / 1e6:.2f} M",
            f"{row['macs'] / 1e9:.2f}",
            f"{row['train_s'] / 60:.1f} min",
            *(accuracy(row["tests"][test]) for test in tests),
        )
    return table


def accuracy(result: dict[str, Any]) -> str:
    """Formats a mean top-1 with its deviation, such as "93.2 ± 0.8 %"."""
    mean = f"{100 * result['top1']:.1f}"
    if result["deviation"] is None:
        return f"{mean} %"
    return f"{mean} ± {100 * result['deviation']:.1f} %"


def draw_sweep(document: dict[str, Any], out: Path | None = None) -> bytes:
    """Plots top-1 per variant: a dot for the mean, a bar for the deviation over the seeds."""
    rows, axis = document["rows"], document["axis"]
    tests = list(rows[0]["tests"])
    width = max(7.2, 0.6 * len(rows) + 1.5) if axis == "names" else 7.2
    figure = Figure(figsize=(width, 4.2), dpi=DPI, layout="constrained")
    plot = figure.subplots()
    for number, test in enumerate(tests):
        shift = 0.12 * (number - (len(tests) - 1) / 2) if axis == "names" else 0.0
        marks = _marks([place + shift for place in _places(rows, axis)], rows, test)
        draw_marks(plot, marks, "o", color=COLORS[number % len(COLORS)], label=test)
    if axis == "names":
        names = [row["variant"] for row in rows]
        turned = 35 if max(map(len, names)) * len(names) > 12 * width else 0
        ends = "right" if turned else "center"
        plot.set_xticks(range(len(rows)), names, rotation=turned, ha=ends, parse_math=False)
    else:
        plot.set_xlabel("GMACs of one clip" if axis == "GMACs" else "parameters in millions")
    plot.set_ylabel("top-1 in %")
    plot.set_title(document["title"], fontsize=11, parse_math=False)
    plot.grid(axis="y", alpha=0.25)
    plot.spines[["top", "right"]].set_visible(False)
    if len(tests) > 1:
        legend_below(figure, plot.get_legend_handles_labels()[0])
    if axis != "names":
        places = _places(rows, axis)
        first, *others = (_marks(places, rows, test) for test in tests)
        plot.margins(x=0.12, y=0.1)
        label_points(plot, first, [row["variant"] for row in rows], others=list(chain(*others)))
    return save_png(figure, out)


def mark_of(place: float, top1: float, deviation: float | None) -> Mark:
    """Mark of an accuracy in percent, with its deviation as the error bar."""
    return place, 100 * top1, 100 * (deviation or 0)


def draw_marks(plot: Any, marks: Sequence[Mark], fmt: str, **look: str) -> Any:
    """Draws marks with their error bars, of which there is at least one."""
    places, top1, deviations = zip(*marks, strict=True)
    return plot.errorbar(places, top1, yerr=deviations, fmt=fmt, ms=5, capsize=2, **look)


def _marks(places: list[float], rows: list[dict[str, Any]], test: str) -> list[Mark]:
    results = [row["tests"][test] for row in rows]
    return [
        mark_of(place, result["top1"], result["deviation"])
        for place, result in zip(places, results, strict=True)
    ]


def _places(rows: list[dict[str, Any]], axis: str) -> list[float]:
    if axis == "names":
        return [float(i) for i in range(len(rows))]
    return [row["macs"] / 1e9 if axis == "GMACs" else row["params"] / 1e6 for row in rows]


@dataclass(frozen=True)
class OptionPoint:
    """A variant of a sweep at its value of an option.

    Attributes:
        variant: Its name.
        value: Number or text; the name for variants without a common option.
        params: Parameters.
        top1: Mean accuracy over the seeds, 0 to 1.
        deviation: Standard deviation over the seeds; None for one seed.
    """

    variant: str
    value: float | str
    params: int
    top1: float
    deviation: float | None


def varied_option(document: dict[str, Any]) -> str | None:
    """Returns the only setting that all variants set to different values, or None."""
    settings = list(_settings(document).values())
    differing = [
        key
        for key in settings[0]
        if all(key in words for words in settings)
        and len({words[key] for words in settings}) == len(settings)
    ]
    return differing[0] if len(differing) == 1 else None


def option_points(document: dict[str, Any], option: str | None, *, test: str) -> list[OptionPoint]:
    """Variants sorted by the value of an option, or in their own order without one.

    Raises:
        UnknownNameError: a variant does not set the option, or the test does not exist.
    """
    settings = _settings(document)
    points = []
    for row in document["rows"]:
        words = settings[row["variant"]]
        if option is not None and option not in words:
            known = {key for words in settings.values() for key in words}
            raise UnknownNameError(
                f"The variant {row['variant']!r} of the sweep {document['title']!r} does not set "
                f"{option!r}. " + did_you_mean(option, known - {option})
            )
        result = result_of(document, row, test)
        points.append(
            OptionPoint(
                variant=row["variant"],
                value=row["variant"] if option is None else _number(words[option]),
                params=row["params"],
                top1=result["top1"],
                deviation=result["deviation"],
            )
        )
    if any(isinstance(point.value, str) for point in points):
        return points
    return sorted(points, key=lambda point: float(point.value))


def draw_option(
    points: list[OptionPoint], option: str | None, *, title: str, test: str, out: Path | None = None
) -> bytes:
    """Plots top-1 (left) and parameters (right axis) against an option, as in GTE's figure 3."""
    texts = [str(point.value) for point in points]
    numbers = [point.value for point in points if not isinstance(point.value, str)]
    ordered = len(numbers) == len(points)
    places = numbers if ordered else [float(i) for i in range(len(points))]
    figure = Figure(figsize=(6.8, 4.2), dpi=DPI, layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    marks = [mark_of(at, p.top1, p.deviation) for at, p in zip(places, points, strict=True)]
    left.set(zorder=right.get_zorder() + 1, frame_on=False)  # top-1 in front of parameters
    dots = "o-" if ordered else "o"
    top1 = draw_marks(left, marks, dots, color=COLORS[0], label="top-1")
    looks: dict[str, Any] = {"color": COLORS[1], "markersize": 9, "markerfacecolor": "none"}
    millions = [point.params / 1e6 for point in points]
    (params,) = right.plot(places, millions, "s--" if ordered else "s", label="parameters", **looks)
    left.set_ylabel(f"top-1 in % ({test})", color=COLORS[0], parse_math=False)
    right.set_ylabel("parameters in millions", color=COLORS[1])
    if not ordered:
        turned = 25 if max(map(len, texts)) > 9 else 0
        left.set_xticks(
            places,
            texts,
            rotation=turned,
            ha="right" if turned else "center",
            rotation_mode="anchor" if turned else "default",
            parse_math=False,
        )
        left.margins(x=0.2)
    if option is not None:
        left.set_xlabel(option, parse_math=False)
    legend_below(figure, [top1, params])
    left.set_title(title, fontsize=11, parse_math=False)
    left.grid(axis="y", alpha=0.25)
    for plot in (left, right):
        plot.spines["top"].set_visible(False)
    return save_png(figure, out)


def result_of(document: dict[str, Any], row: dict[str, Any], test: str) -> dict[str, Any]:
    """Returns top-1 and deviation of a row on a test.

    Raises:
        UnknownNameError: the test does not exist.
    """
    if test not in row["tests"]:
        raise UnknownNameError(
            f"The sweep {document['title']!r} has no test {test!r}. "
            + did_you_mean(test, row["tests"])
        )
    result: dict[str, Any] = row["tests"][test]
    return result


def _settings(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Settings of each variant, by name."""
    return {
        name: dict(word.split("=", 1) for word in words)
        for name, words in document["variants"].items()
    }


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
