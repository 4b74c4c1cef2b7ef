"""Rows of pictures and maps for figures about single clips."""

from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.report.plots import DPI, Figure

CELL_IN = 1.45
GAP = 0.06  # between cells, in cell widths
MARK = 0.06  # minimum side of a box that marks a position, in cell widths
# Margins around the strips, title lines above and color bar to the right, in inches.
LEFT, RIGHT, BOTTOM, LINE, BAR = 0.6, 0.75, 0.1, 0.22, 0.12
LETTERS_IN = 12  # letters of the title per inch
MAPS = "viridis"
HEAT = "turbo"


class Strip:
    """Row of square cells in a plot; pictures are stretched to the size of a cell."""

    def __init__(self, plot: Any, cells: int, name: str) -> None:
        self.plot = plot
        plot.set_ylabel(name, fontsize=8, parse_math=False)
        plot.set(xticks=[], yticks=[])
        plot.spines[:].set_visible(False)
        plot.set_xlim(0, cells * (1 + GAP) - GAP)
        plot.set_ylim(1, 0)

    def show(self, cell: int, picture: NDArray[Any], text: str = "", **colors: Any) -> Any:
        """Draws a picture (H, W, 3) or map (h, w) and a line above it; returns the image."""
        left, limits = cell * (1 + GAP), (self.plot.get_xlim(), self.plot.get_ylim())
        image = self.plot.imshow(picture, extent=(left, left + 1, 1, 0), **colors)
        self.plot.set(xlim=limits[0], ylim=limits[1])
        looks = {"ha": "center", "va": "bottom", "fontsize": 8, "parse_math": False}
        self.plot.text(left + 0.5, -0.02, text, **looks)
        return image

    def mark(self, cell: int, place: tuple[int, int], grid: tuple[int, ...], color: str) -> None:
        """Draws a box around row and column `place` of a map of shape `grid`."""
        rows, columns = grid
        sides = max(1 / columns, MARK), max(1 / rows, MARK)
        across = (place[1] + 0.5) / columns + sides[0] / 2 * np.array([-1, 1, 1, -1, -1])
        down = (place[0] + 0.5) / rows + sides[1] / 2 * np.array([-1, -1, 1, 1, -1])
        corners = np.clip(across, 0, 1) + cell * (1 + GAP), np.clip(down, 0, 1)
        self.plot.plot(*corners, color=color, linewidth=1.6)


def strip_rows(
    names: list[str], cells: int, title: str, *, cell_in: float = CELL_IN
) -> tuple[Figure, list[Strip]]:
    """Creates a figure with a strip of cells per name; `cell_in` is a cell's side in inches."""
    row_in = cell_in + LINE
    strips_in = cell_in * (cells * (1 + GAP) - GAP)
    width = LEFT + strips_in + RIGHT
    lines = [part for line in title.split("\n") for part in wrap(line, int(LETTERS_IN * width))]
    height = BOTTOM + row_in * len(names) + LINE * len(lines) + 0.1
    figure = Figure(figsize=(width, height), dpi=DPI)
    top = 1 - 0.04 / height
    figure.suptitle("\n".join(lines), fontsize=10, y=top, va="top", parse_math=False)
    strips = []
    for number, name in enumerate(names):
        bottom = BOTTOM + row_in * (len(names) - 1 - number)
        box = (LEFT / width, bottom / height, strips_in / width, cell_in / height)
        strips.append(Strip(figure.add_axes(box), cells, name))
    return figure, strips


def color_bar(figure: Figure, image: Any, strips: list[Strip], label: str = "") -> None:
    """Adds the color bar of an image to the right of some strips."""
    first, last = (strip.plot.get_position() for strip in (strips[0], strips[-1]))
    width = figure.get_figwidth()
    box = (first.x1 + 0.08 / width, last.y0, BAR / width, first.y1 - last.y0)
    bar = figure.colorbar(image, cax=figure.add_axes(box))
    bar.ax.tick_params(labelsize=7)
    bar.set_label(label, fontsize=8)
