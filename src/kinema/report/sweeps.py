"""A sweep's results as a table and a plot."""

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from kinema.report.figures import DPI, Figure, save_png

COLOURS = ("#1f6feb", "#d9822b", "#2da44e", "#8250df", "#cf222e", "#6e7781", "#0a7ea4", "#bf8700")


def sweep_table(document: dict[str, Any]) -> Table:
    """Top-1 of every variant on every test, with parameters and GMACs.

    Args:
        document: What `kinema.sweep.summary.summarise` made.
    """
    tests = list(document["rows"][0]["tests"])
    table = Table("variant", title=document["title"])
    for column in ("parameters", "GMACs", "training", *tests):
        table.add_column(column, justify="right")
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
    """A mean top-1 with its deviation, such as "93.2 ± 0.8 %"."""
    mean = f"{100 * result['top1']:.1f}"
    if result["deviation"] is None:
        return f"{mean} %"
    return f"{mean} ± {100 * result['deviation']:.1f} %"


def draw_sweep(document: dict[str, Any], out: Path | None = None) -> bytes:
    """Top-1 of every variant: a dot for the mean, a bar for the deviation over the seeds.

    Args:
        document: What `kinema.sweep.summary.summarise` made.
        out: PNG file to write, too.

    Returns:
        The PNG.
    """
    rows, axis = document["rows"], document["axis"]
    tests = list(rows[0]["tests"])
    width = max(6.0, 0.5 * len(rows) * len(tests) ** 0.5 + 2.5) if axis == "names" else 7.0
    figure = Figure(figsize=(width, 4.2), dpi=DPI, layout="constrained")
    plot = figure.subplots()
    for number, test in enumerate(tests):
        results = [row["tests"][test] for row in rows]
        shift = 0.12 * (number - (len(tests) - 1) / 2) if axis == "names" else 0.0
        places = [place + shift for place in _places(rows, axis)]
        plot.errorbar(
            places,
            [100 * result["top1"] for result in results],
            yerr=[100 * (result["deviation"] or 0) for result in results],
            fmt="o",
            capsize=3,
            color=COLOURS[number % len(COLOURS)],
            label=test,
        )
    if axis == "names":
        names = [row["variant"] for row in rows]
        turned = 35 if max(map(len, names)) > 7 else 0
        ends = "right" if turned else "center"
        plot.set_xticks(range(len(rows)), names, rotation=turned, ha=ends, parse_math=False)
    else:
        plot.set_xlabel("GMACs of one clip" if axis == "GMACs" else "parameters in millions")
        for row, place in zip(rows, _places(rows, axis), strict=True):
            best = 100 * row["tests"][tests[0]]["top1"]
            plot.annotate(
                row["variant"],
                (place, best),
                xytext=(6, 4),
                textcoords="offset points",
                fontsize=8,
                parse_math=False,
            )
    plot.set_ylabel("top-1 in %")
    plot.set_title(document["title"], fontsize=11, parse_math=False)
    plot.grid(axis="y", alpha=0.25)
    plot.spines[["top", "right"]].set_visible(False)
    if len(tests) > 1:
        plot.legend(frameon=False, fontsize=8, ncols=2)
    return save_png(figure, out)


def _places(rows: list[dict[str, Any]], axis: str) -> list[float]:
    if axis == "names":
        return [float(i) for i in range(len(rows))]
    return [row["macs"] / 1e9 if axis == "GMACs" else row["params"] / 1e6 for row in rows]
