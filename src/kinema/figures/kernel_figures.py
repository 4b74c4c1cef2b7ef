"""Figures of TAM's kernels and gates, as in the paper's appendix A.4."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from kinema.errors import OptionError
from kinema.figures.adaptive_kernels import AdaptiveKernels
from kinema.figures.panels import (
    GAP,
    PAPER_DPI,
    PAPER_IN,
    TEXT_PT,
    TITLE_PT,
    Strip,
    inch_axes,
    plain,
)
from kinema.figures.shown_clip import ShownClip, clip_titles
from kinema.figures.tam_kernels import (
    ByOffset,
    KernelStudy,
    SharedStudy,
    center_weight,
    weights_by_offset,
)
from kinema.report.plots import Figure, legend_below, save_png, shortened

# Clips with their own column or row, as in the paper, and those of one folder among them.
SHOWN_CLIPS, CLIPS_OF_FOLDER = 4, 2
VIOLIN, SHARED_VIOLIN = "#1f6feb", "#d9822b"
COLORS = ("#1f6feb", "#d9822b", "#2da44e", "#8250df", "#57606a")  # offsets and blocks
SET_COLORS = ("#8250df", "#2da44e", "#cf222e", "#57606a")
BINS = 60
STEPS: Mapping[str, Any] = {"bins": BINS, "range": (0, 1), "density": True, "histtype": "step"}
LETTERS = 16  # of a line above a column
LEAST_COLUMN_IN = 1.15
# Of the figure about motion, in inches: frames, rows of clips, plots of all clips, and margins.
CELL_IN, CLIP_CELLS, CLIP_IN = 0.85, 4, 1.12
SCATTER_IN, BLOCKS_ACROSS, HEAD_IN, GAP_IN, FOOT_IN = 1.75, 4, 0.3, 0.45, 0.35


def draw_violins(
    studies: Sequence[KernelStudy], shared: Sequence[SharedStudy] = (), out: Path | None = None
) -> bytes:
    """Draws kernel weights by offset, with blocks as rows and clips as columns (TAM, figure 4).

    A violin covers the whole range, with lines at minimum, median and maximum. Each study shows
    up to two clips of a folder beside each other, and all its clips together. TAMs of a row have
    one scale; the networks to compare have another.
    """
    columns = [column for study in studies for column in _violin_columns(study, len(studies))]
    titles = [title for title, _ in columns] + [f"{shortened(o.label)}\nown scale" for o in shared]
    title = "temporal kernels by offset: minimum, median, maximum"
    # The names of several studies stand in a line between the title and those of the clips.
    title = f"{studies[0].label}: {title}" if len(studies) == 1 else f"{title}\n "
    figure, plots = _grid(list(studies[0].made), len(titles), title)
    for row, block in zip(plots, studies[0].made, strict=True):
        adaptive, fixed = row[: len(columns)], row[len(columns) :]
        for plot, (_, made) in zip(adaptive, columns, strict=True):
            _violins(plot, weights_by_offset(made[block]), VIOLIN)
        for plot, other in zip(fixed, shared, strict=True):
            _violins(plot, other.weights[block], SHARED_VIOLIN)
        for alike in (adaptive, fixed):
            _one_scale(alike)
        row[0].set_ylabel(f"{block}\nkernel weight", fontsize=TEXT_PT)
    for top, bottom, text in zip(plots[0], plots[-1], _same_lines(titles), strict=True):
        top.set_title(text, fontsize=TEXT_PT, parse_math=False)
        bottom.set_xlabel("offset in frames", fontsize=TEXT_PT)
    if len(studies) > 1:
        ends = np.cumsum([0, *(len(_violin_columns(study, len(studies))) for study in studies)])
        spans = zip(studies, ends, ends[1:], strict=False)
        _headings(figure, [(s.label, plots[0, first:last]) for s, first, last in spans])
    return save_png(figure, out)


def draw_distributions(studies: Sequence[KernelStudy], out: Path | None = None) -> bytes:
    """Draws distributions of gates V and kernels Theta (TAM, figures 5 and 6).

    The studies stand side by side on one scale. Thin gray lines are single clips.
    """
    number = len(studies)
    counted = f"{studies[0].label} on {_counted(studies[0])}" if number == 1 else "TAM"
    figure, plots = _grid(list(studies[0].made), 2 * number, f"{counted}: gates and kernels")
    for row, block in zip(plots, studies[0].made, strict=True):
        for plot, study in zip(row[:number], studies, strict=True):
            gates = [one.gates.ravel() for one in study.made[block] if one.gates is not None]
            _gate_steps(plot, gates)
        for plot, study in zip(row[number:], studies, strict=True):
            _kernel_steps(plot, weights_by_offset(study.made[block]))
        for alike in (row[:number], row[number:]):
            _one_scale(alike)
        row[0].set_ylabel(f"{block}\ndensity", fontsize=TEXT_PT)
    for plot in plots.flat:
        plot.set(xlim=(0, 1), xticks=(0, 0.5, 1))
    for plot, study in zip(plots[0], (*studies, *studies), strict=True):
        if number > 1:
            title = f"{_in_lines(study.label)}\n{_counted(study)}"
            plot.set_title(title, fontsize=TEXT_PT, parse_math=False)
    for bottom in plots[-1, :number]:
        bottom.set_xlabel("gate V (local branch)", fontsize=TEXT_PT)
    for bottom in plots[-1, number:]:
        bottom.set_xlabel("kernel Theta (global branch)", fontsize=TEXT_PT)
    offsets = plots[0, -1].get_legend_handles_labels()[0]
    legend_below(figure, offsets, title="Theta at offset", fontsize=TEXT_PT)
    return save_png(figure, out)


def draw_motion(studies: Sequence[KernelStudy], out: Path | None = None) -> bytes:
    """Draws the weight of kernels at t = 0 beside clips, and against motion (TAM, figures 7 and 8).

    Rows show frames of the clips with the least and with the most motion, and the distribution of
    the weight over the channels. Below are median and quartiles of all clips.

    Raises:
        OptionError: there is only one clip.
    """
    clips = [(study, i) for study in studies for i in range(len(study.shown))]
    if len(clips) < 2:
        raise OptionError("Kernels against motion need at least two clips, got one.")
    clips.sort(key=lambda clip: clip[0].shown[clip[1]].motion)
    ends = clips if len(clips) <= SHOWN_CLIPS else [*clips[:2], *clips[-2:]]
    blocks = list(studies[0].made)
    across = min(len(blocks), BLOCKS_ACROSS)
    lines = -(-len(blocks) // across)
    height = HEAD_IN + CLIP_IN * len(ends) + GAP_IN + SCATTER_IN * lines + FOOT_IN
    figure = Figure(figsize=(PAPER_IN, height), dpi=PAPER_DPI)
    name = f"{studies[0].label}: " if len(studies) == 1 else ""
    figure.suptitle(f"{name}kernel weight at t = 0 and motion", fontsize=TITLE_PT, parse_math=False)
    top = height - HEAD_IN
    weights = [center_weight(made[i]) for study, i in ends for made in study.made.values()]
    all_weights = np.concatenate(weights)
    span = (float(all_weights.min()) - 0.01, float(all_weights.max()) + 0.01)
    histograms: list[Any] = []
    for study, i in ends:
        top -= CLIP_IN
        histograms.append(_clip_row(figure, study, i, top, several=len(studies) > 1))
        _center_steps(histograms[-1], [made[i] for made in study.made.values()], blocks, span)
    _one_scale(histograms)
    for plot in histograms:
        plot.tick_params(labelleft=True)
    histograms[-1].set_xlabel("kernel weight at t = 0", fontsize=TEXT_PT)
    width = (PAPER_IN - 0.1) / across
    for number, block in enumerate(blocks):
        bottom = FOOT_IN + SCATTER_IN * (lines - 1 - number // across) + 0.42
        left = 0.1 + width * (number % across)
        box = (left + 0.5, bottom, width - 0.7, SCATTER_IN - 0.65)
        plot = plain(inch_axes(figure, box))
        _scatter(plot, studies, block)
        plot.set_title(f"{block}: median and quartiles", fontsize=TEXT_PT)
        plot.set_xlabel("motion in gray levels", fontsize=TEXT_PT)
        if number % across == 0:
            plot.set_ylabel("weight at t = 0", fontsize=TEXT_PT)
    handles = histograms[0].get_legend_handles_labels()[0]
    if len(studies) > 1:
        handles = [*handles, *plot.get_legend_handles_labels()[0]]
    legend_below(figure, handles, fontsize=TEXT_PT)
    return save_png(figure, out)


def _clip_row(
    figure: Figure, study: KernelStudy, clip: int, bottom: float, *, several: bool
) -> Any:
    """Draws frames of a clip and returns the plot beside them."""
    shown = study.shown[clip]
    title = clip_titles(study.shown)[clip].replace("\n", ": ")
    title += f", motion {shown.motion:.1f}" + (f" ({study.label})" if several else "")
    cells = min(len(shown.frames), CLIP_CELLS)
    chosen = np.linspace(0, len(shown.frames) - 1, cells).round().astype(int).tolist()
    wide = CELL_IN * (cells * (1 + GAP) - GAP)
    strip = Strip(inch_axes(figure, (0.15, bottom, wide, CELL_IN)), cells, "")
    for cell, t in enumerate(chosen):
        strip.show(cell, shown.frames[t])
    strip.plot.set_title(title, fontsize=TEXT_PT, loc="left", pad=3, parse_math=False)
    left = 0.15 + CELL_IN * CLIP_CELLS * (1 + GAP) + 0.5
    plot = plain(inch_axes(figure, (left, bottom, PAPER_IN - 0.2 - left, CELL_IN)))
    plot.set_ylabel("density", fontsize=TEXT_PT)
    return plot


def _center_steps(
    plot: Any, made: Sequence[AdaptiveKernels], blocks: Sequence[str], span: tuple[float, float]
) -> None:
    for color, one, block in zip(cycle(COLORS), made, blocks, strict=False):
        looks = {**STEPS, "range": span, "bins": BINS // 2}
        plot.hist(center_weight(one), color=color, lw=1.2, label=block, **looks)


def _scatter(plot: Any, studies: Sequence[KernelStudy], block: str) -> None:
    for color, marker, study in zip(cycle(SET_COLORS), cycle("os^D"), studies, strict=False):
        weights = [center_weight(one) for one in study.made[block]]
        quarters = np.array([np.quantile(one, (0.25, 0.5, 0.75)) for one in weights]).T
        reach = np.abs(quarters[[0, 2]] - quarters[1])
        looks = {"fmt": marker, "ms": 4, "capsize": 2, "color": color, "label": study.label}
        plot.errorbar(study.motion, quarters[1], yerr=reach, **looks)
    plot.margins(x=0.1, y=0.12)


def _shown_clips(shown: Sequence[ShownClip], count: int) -> list[int]:
    """Clips with a column: the first ones, two of every folder before further ones of any."""
    folders = [one.path.parent for one in shown]
    extra = [folders[:i].count(folder) >= CLIPS_OF_FOLDER for i, folder in enumerate(folders)]
    return sorted(sorted(range(len(shown)), key=extra.__getitem__)[:count])


def _violin_columns(
    study: KernelStudy, studies: int
) -> list[tuple[str, Mapping[str, Sequence[AdaptiveKernels]]]]:
    """Title and kernels of each column: single clips, and all clips together."""
    chosen = _shown_clips(study.shown, max(1, SHOWN_CLIPS // studies))
    titles = clip_titles(study.shown)
    columns: list[tuple[str, Mapping[str, Sequence[AdaptiveKernels]]]] = [
        (
            "\n".join(map(_in_lines, titles[i].split("\n"))),
            {block: [made[i]] for block, made in study.made.items()},
        )
        for i in chosen
    ]
    return columns + ([(f"all {_counted(study)}", study.made)] if len(study.shown) > 1 else [])


def _grid(blocks: Sequence[str], columns: int, title: str) -> tuple[Figure, Any]:
    """Figure and plots of a row per block."""
    width = max(PAPER_IN, LEAST_COLUMN_IN * columns)
    figure = Figure(figsize=(width, 1.5 * len(blocks) + 1), dpi=PAPER_DPI, layout="constrained")
    figure.suptitle(title, fontsize=TITLE_PT, parse_math=False)
    plots = figure.subplots(len(blocks), columns, squeeze=False)
    for plot in plots.flat:
        plain(plot)
    return figure, plots


def _one_scale(plots: Sequence[Any]) -> None:
    """Gives adjacent plots the limits that hold all their data; the first one has the numbers."""
    limits = [plot.get_ylim() for plot in plots]
    for number, plot in enumerate(plots):
        plot.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        plot.tick_params(labelleft=not number)


def _violins(plot: Any, weights: ByOffset, color: str) -> None:
    parts = plot.violinplot(list(weights.values()), list(weights), widths=0.8, showmedians=True)
    for body in parts["bodies"]:
        body.set(facecolor=color, alpha=0.45)
    for name in ("cbars", "cmins", "cmaxes", "cmedians"):
        parts[name].set(color=color, linewidth=1)
    plot.set_xticks(list(weights), [_offset_text(offset) for offset in weights])


def _offset_text(offset: int) -> str:
    return f"{offset:+d}" if offset else "0"


def _counted(study: KernelStudy) -> str:
    return f"{len(study.shown)} clip{'s' if len(study.shown) > 1 else ''}"


def _kernel_steps(plot: Any, weights: ByOffset) -> None:
    for color, (offset, values) in zip(cycle(COLORS), weights.items(), strict=False):
        plot.hist(values, color=color, lw=1.2, label=_offset_text(offset), **STEPS)


def _gate_steps(plot: Any, gates: Sequence[NDArray[np.float32]]) -> None:
    if not gates:
        looks = {"ha": "center", "fontsize": TEXT_PT, "transform": plot.transAxes}
        plot.text(0.5, 0.5, "no local branch", **looks)
        return
    for values in gates if len(gates) > 1 else ():
        plot.hist(values, color="#c8cdd4", lw=0.6, **STEPS)
    plot.hist(np.concatenate(gates), color=VIOLIN, lw=1.2, **STEPS)


def _headings(figure: Figure, spans: Sequence[tuple[str, Sequence[Any]]]) -> None:
    """Writes a name with a line above each group of columns, below the figure's title."""
    figure.draw_without_rendering()
    boxes = [[plot.get_tightbbox() for plot in plots] for _, plots in spans]
    pixels = figure.bbox.size
    top = (
        max(box.y1 for group in boxes for box in group) / pixels[1] + 0.06 / figure.get_figheight()
    )
    for (name, _), group in zip(spans, boxes, strict=True):
        left, right = group[0].x0 / pixels[0], group[-1].x1 / pixels[0]
        line = Line2D([left, right], [top, top], color="black", lw=0.6)
        figure.add_artist(line).set_in_layout(False)
        at = ((left + right) / 2, top + 0.03 / figure.get_figheight())
        looks: dict[str, Any] = {"ha": "center", "va": "bottom", "parse_math": False}
        looks["fontsize"] = TITLE_PT
        figure.text(*at, name, **looks).set_in_layout(False)


def _same_lines(titles: Sequence[str]) -> list[str]:
    """Titles of equal height, so that the plots below them stay level."""
    lines = max(title.count("\n") for title in titles)
    return [title + "\n" * (lines - title.count("\n")) for title in titles]


def _in_lines(name: str) -> str:
    """Breaks a name that is longer than a line above a column."""
    if len(name) <= LETTERS:
        return name
    start = name[: LETTERS + 1]
    at = max(start.rfind(" "), start.rfind("_") + 1) if " " in start or "_" in start else LETTERS
    return f"{name[:at]}\n{name[at:].lstrip()}"
