"""Plots: training curves, confusion matrices, accuracies per class, strips of frames.

The functions return PNG data, and also write it if a file `out` is given.
"""

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kinema.errors import missing_extra
from kinema.system.files import write_whole
from kinema.system.fonts import fallback_font
from kinema.values import Report

try:
    from matplotlib.figure import Figure as Figure  # noqa: PLC0414 - for sweeps.py
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text
    from matplotlib.ticker import MaxNLocator
except ModuleNotFoundError as error:
    raise missing_extra("Plotting", error.name, "train") from error

DPI = 110
TRAIN_COLOR, VAL_COLOR = "#8a8f98", "#1f6feb"
RUN_COLORS = ("#b6bcc6", "#1f6feb", "#d9822b", "#2da44e")

# Names and numbers do not fit for more classes.
NAMED_CLASSES = 40
NUMBERED_CLASSES = 15


def draw_curves(metrics: Path, out: Path | None = None, *, title: str = "") -> bytes:
    """Plots loss, accuracy and learning rate over the epochs of a run's metrics.jsonl."""
    lines = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    tested = [line for line in epochs if line.get("val_top1") is not None]
    figure = Figure(figsize=(10, 3), dpi=DPI, layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    _line(loss, epochs, "loss", TRAIN_COLOR)
    loss.set_title("loss")
    _line(accuracy, epochs, "top1", TRAIN_COLOR, scale=100, label="training")
    _line(accuracy, tested, "val_top1", VAL_COLOR, scale=100, label="validation")
    accuracy.set_title("top-1 in %")
    accuracy.set_ylim(0, 102)
    _line(rate, epochs, "lr", TRAIN_COLOR)
    rate.set_title("learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    for plot in (loss, accuracy, rate):
        plot.set_xlabel("epoch")
        plot.xaxis.set_major_locator(MaxNLocator(integer=True))
        plot.grid(alpha=0.25)
        plot.spines[["top", "right"]].set_visible(False)
    legend_below(figure, accuracy.get_legend_handles_labels()[0])
    if title:
        figure.suptitle(title)
    return save_png(figure, out)


def draw_confusion(report: Report, out: Path | None = None, *, title: str = "") -> bytes:
    """Plots the confusion matrix, with rows normalized by the true class."""
    counts = report.confusion
    classes = len(report.class_names)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = min(14.0, 3.2 + 0.2 * classes)
    figure = Figure(figsize=(side + 0.6, side), dpi=DPI, layout="constrained")
    plot = figure.subplots()
    image = plot.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=plot, shrink=0.7, label="share of the true class")
    named = classes <= NAMED_CLASSES
    plot.set_xlabel("predicted" if named else "predicted class, by number")
    plot.set_ylabel("true" if named else "true class, by number")
    if named:
        names = [shortened(name) for name in report.class_names]
        plot.set_xticks(range(classes), names, rotation=90, fontsize=8, parse_math=False)
        plot.set_yticks(range(classes), names, fontsize=8, parse_math=False)
    if classes <= NUMBERED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.55 else "black"
                plot.text(column, row, str(count), ha="center", va="center", color=color, size=8)
    if title:
        plot.set_title(title)
    return save_png(figure, out)


def draw_class_bars(reports: Mapping[str, Report], out: Path | None = None) -> bytes:
    """Plots accuracies per class of evaluations on the same videos, given by legend entry."""
    classes = next(iter(reports.values())).per_class
    rows = np.arange(len(classes))
    thickness = 0.8 / len(reports)
    height = 0.9 + len(classes) * max(0.28, 0.14 * len(reports))
    figure = Figure(figsize=(9, min(60.0, height)), dpi=DPI, layout="constrained")
    plot = figure.subplots()
    for number, (name, report) in enumerate(reports.items()):
        shares = [100 * (result.accuracy or 0.0) for result in report.per_class]
        places = rows + (number - (len(reports) - 1) / 2) * thickness
        color = RUN_COLORS[number % len(RUN_COLORS)]
        plot.barh(places, shares, height=thickness, color=color, label=name)
    names = [shortened(result.name) for result in classes]
    plot.set_yticks(rows, names, fontsize=9, parse_math=False)
    plot.set_ylim(len(classes) - 0.4, -0.6)
    plot.set_xlim(0, 101)
    plot.set_xlabel("accuracy in %")
    plot.set_axisbelow(True)
    plot.grid(axis="x", alpha=0.25)
    plot.spines[["top", "right"]].set_visible(False)
    legend_below(figure, plot.containers)
    return save_png(figure, out)


def draw_frames(
    frames: NDArray[np.uint8] | torch.Tensor, out: Path | None = None, *, gap_px: int = 3
) -> bytes:
    """Draws frames side by side: (T, H, W, 3) or (T, 3, H, W) uint8 RGB."""
    pictures = np.asarray(frames)
    if pictures.shape[1] == 3:
        pictures = pictures.transpose(0, 2, 3, 1)
    padded = np.pad(pictures, ((0, 0), (0, 0), (0, gap_px), (0, 0)), constant_values=255)
    strip = np.concatenate(list(padded), axis=1)
    strip = strip[:, : strip.shape[1] - gap_px]
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, format="PNG")
    return _kept(buffer.getvalue(), out)


def _line(
    plot: Any, epochs: list[Any], key: str, color: str, *, scale: int = 1, label: str = ""
) -> None:
    x, y = [line["epoch"] for line in epochs], [scale * line[key] for line in epochs]
    plot.plot(x, y, color=color, label=label, marker="o", markersize=3)


def legend_below(
    figure: Figure, handles: Sequence[Any], *, title: str | None = None, fontsize: float = 8
) -> None:
    """Adds the legend of labeled artists below the plots, where it covers none of them."""
    letters = max(len(handle.get_label()) for handle in handles)
    entry_in = 0.5 + 0.0085 * fontsize * letters  # sample and text
    columns = min(len(handles), max(1, int(figure.get_figwidth() / entry_in)))
    looks: dict[str, Any] = {"frameon": False, "fontsize": fontsize, "title_fontsize": fontsize}
    looks["loc"] = "outside lower center" if figure.get_layout_engine() else "lower center"
    legend = figure.legend(handles=handles, title=title, ncols=columns, **looks)
    for text in legend.get_texts():
        text.set_parse_math(False)


def shortened(name: str, letters: int = 28) -> str:
    """Shortens a name in the middle: long class names often differ only in their last words."""
    half = letters // 2
    return name if len(name) <= letters else f"{name[: half - 2]}..{name[-half:]}"


def save_png(figure: Figure, out: Path | None) -> bytes:
    """Renders a figure as PNG and, if `out` is given, writes it."""
    _take_fonts(figure)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # fallback_font reports it.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(buffer, format="png")
    return _kept(buffer.getvalue(), out)


def _take_fonts(figure: Figure) -> None:
    """Sets a fallback font for texts with letters that matplotlib's font lacks."""
    for plot in figure.axes:
        for axis in (plot.xaxis, plot.yaxis):
            axis.get_majorticklabels()  # tick labels are created when they are requested
    for text in figure.findobj(Text):
        font = fallback_font(text.get_text())
        if font is not None:
            text.set_fontproperties(FontProperties(fname=font.fname, size=text.get_fontsize()))


def _kept(png: bytes, out: Path | None) -> bytes:
    if out is not None:
        write_whole(out, png)
    return png
