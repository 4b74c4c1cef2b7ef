"""Rows of pictures and maps for figures about single clips."""

from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.report.plots import Figure

# A figure is as wide as the two columns of a paper, so that its text is readable in print.
PAPER_IN, PAPER_DPI = 7.2, 200
TEXT_PT, TITLE_PT = 7, 8
GAP = 0.06  # between cells, in cell widths
MARK = 0.06  # minimum side of a box that marks a position, in cell widths
# Margins around the strips, lines above cells, lines of the title and color bar, in inches.
LEFT, RIGHT, BOTTOM, LINE, TITLE_LINE, BAR = 0.42, 0.55, 0.06, 0.15, 0.14, 0.08
LARGEST_CELL_IN = 1.2
LETTERS_IN = 17  # letters of the title per inch
MAPS = "viridis"
HEAT = "turbo"


def inch_axes(figure: Figure, box: tuple[float, float, float, float]) -> Any:
    """Axes at left, bottom, width and height in inches."""
    width, height = figure.get_size_inches()
    left, bottom, wide, high = box
    return figure.add_axes((left / width, bottom / height, wide / width, high / height))


def plain(plot: Any) -> Any:
    """Gives a plot small text, lines at its ticks and no frame at the top and right."""
    plot.tick_params(labelsize=TEXT_PT)
    plot.grid(axis="y", alpha=0.25)
    plot.spines[["top", "right"]].set_visible(False)
    return plot


class Strip:
    """Row of square cells in a plot; pictures are stretched to the size of a cell."""

    def __init__(self, plot: Any, cells: int, name: str) -> None:
        self.plot = plot
        plot.set_ylabel(name, fontsize=TEXT_PT, parse_math=False)
        plot.set(xticks=[], yticks=[])
        plot.spines[:].set_visible(False)
        plot.set_xlim(0, cells * (1 + GAP) - GAP)
        plot.set_ylim(1, 0)

    def show(self, cell: int, picture: NDArray[Any], text: str = "", **colors: Any) -> Any:
        """Draws a picture (H, W, 3) or map (h, w) and a line above it; returns the image."""
        left, limits = cell * (1 + GAP), (self.plot.get_xlim(), self.plot.get_ylim())
        image = self.plot.imshow(picture, extent=(left, left + 1, 1, 0), **colors)
        self.plot.set(xlim=limits[0], ylim=limits[1])
        looks = {"ha": "center", "va": "bottom", "fontsize": TEXT_PT, "parse_math": False}
        self.plot.text(left + 0.5, -0.02, text, **looks)
        return image

    def mark(self, cell: int, place: tuple[int, int], grid: tuple[int, ...], color: str) -> None:
        """Draws a box around row and column `place` of a map of shape `grid`."""
        rows, columns = grid
        sides = max(1 / columns, MARK), max(1 / rows, MARK)
        across = (place[1] + 0.5) / columns + sides[0] / 2 * np.array([-1, 1, 1, -1, -1])
        down = (place[0] + 0.5) / rows + sides[1] / 2 * np.array([-1, -1, 1, 1, -1])
        corners = np.clip(across, 0, 1) + cell * (1 + GAP), np.clip(down, 0, 1)
        self.plot.plot(*corners, color=color, linewidth=1.2)


def strip_rows(names: list[str], cells: int, title: str) -> tuple[Figure, list[Strip]]:
    """Creates a figure with a strip of cells per name."""
    widths = cells * (1 + GAP) - GAP
    cell_in = min(LARGEST_CELL_IN, (PAPER_IN - LEFT - RIGHT) / widths)
    row_in, strips_in = cell_in + LINE, cell_in * widths
    width = LEFT + strips_in + RIGHT
    lines = [part for line in title.split("\n") for part in wrap(line, int(LETTERS_IN * width))]
    height = BOTTOM + row_in * len(names) + TITLE_LINE * len(lines) + 0.08
    figure = Figure(figsize=(width, height), dpi=PAPER_DPI)
    top = 1 - 0.04 / height
    looks = {"fontsize": TITLE_PT, "va": "top", "parse_math": False}
    figure.suptitle("\n".join(lines), y=top, **looks)
    strips = []
    for number, name in enumerate(names):
        bottom = BOTTOM + row_in * (len(names) - 1 - number)
        plot = inch_axes(figure, (LEFT, bottom, strips_in, cell_in))
        strips.append(Strip(plot, cells, name))
    return figure, strips


def color_bar(figure: Figure, image: Any, strips: list[Strip], label: str = "") -> None:
    """Adds the color bar of an image to the right of some strips."""
    first, last = (strip.plot.get_position() for strip in (strips[0], strips[-1]))
    width = figure.get_figwidth()
    box = (first.x1 + 0.06 / width, last.y0, BAR / width, first.y1 - last.y0)
    bar = figure.colorbar(image, cax=figure.add_axes(box))
    bar.ax.tick_params(labelsize=TEXT_PT - 1, pad=1, length=2)
    bar.set_label(label, fontsize=TEXT_PT)
