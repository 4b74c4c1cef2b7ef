"""Elements of the module diagrams.

Rows are channels, columns are frames; the number and the color of a cell give the frame that its
content comes from. Orange boxes have weights, gray ones none. Circles are signs. Coordinates are
inches from the upper left corner.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

WIDTH = 9.2
FONT, SMALL = 11.5, 10.0
CELL = 0.27

# From the first frame to the fifth.
FRAMES = ("#e6f0fb", "#c3dbf6", "#93bdee", "#5b96df", "#2f6dc0")
ORANGE, GRAY, WHITE = "#fbdcb5", "#e8eaed", "#ffffff"
INK, FAINT = "#24292f", "#7a828c"

Side = Literal["left", "right", "top", "bottom"]
Point = tuple[float, float]
# A frame number from 1; several whose contents are mixed; a weight as text; None is zero.
Content = int | tuple[int | None, ...] | str | None
SIDES: dict[Side, Point] = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}


@dataclass(frozen=True)
class Node:
    """Center and size of an element that arrows can connect."""

    x: float
    y: float
    width: float
    height: float

    def at(self, side: Side) -> Point:
        """Middle of one of its sides."""
        across, down = SIDES[side]
        return self.x + across * self.width / 2, self.y + down * self.height / 2


class Canvas:
    """Drawing with the common width.

    Args:
        height: In inches.
    """

    def __init__(self, height: float) -> None:
        self.figure = Figure(figsize=(WIDTH, height), facecolor=WHITE)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(0, WIDTH)
        self.axes.set_ylim(height, 0)
        self.axes.axis("off")

    def save(self, path: Path) -> None:
        """Writes a reproducible SVG with text as outlines, or a PNG for viewing."""
        with matplotlib.rc_context({"svg.hashsalt": "kinema", "svg.fonttype": "path"}):
            more = {"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 110}
            self.figure.savefig(path, facecolor=WHITE, **more)

    def text(
        self, x: float, y: float, text: str, *, size: float = FONT, ink: str = INK, **more: str
    ) -> None:
        """Draws text centered at a point, or beside it with `ha`."""
        place = {"ha": "center", "va": "center", **more}
        self.axes.text(x, y, text, fontsize=size, color=ink, linespacing=1.15, **place)

    def note(self, x: float, y: float, text: str, **more: str) -> None:
        """Draws a remark in small, pale text."""
        self.text(x, y, text, size=SMALL, ink=FAINT, **more)

    def box(self, x: float, y: float, text: str, *, weights: bool = False) -> Node:
        """Draws an operator as a box that fits its text."""
        lines = text.split("\n")
        node = Node(x, y, 0.085 * max(map(len, lines)) + 0.22, 0.18 * len(lines) + 0.18)
        corner = node.x - node.width / 2, node.y - node.height / 2
        style = "round,pad=0,rounding_size=0.07"
        color = ORANGE if weights else GRAY
        self.axes.add_patch(
            FancyBboxPatch(
                corner, node.width, node.height, boxstyle=style, fc=color, ec=INK, lw=1, zorder=3
            )
        )
        self.axes.text(x, y, text, fontsize=SMALL, color=INK, ha="center", va="center", zorder=4)
        return node

    def sign(self, x: float, y: float, text: str) -> Node:
        """Draws a sum, difference or product as a circle."""
        self.axes.add_patch(Circle((x, y), 0.15, fc=WHITE, ec=INK, lw=1, zorder=3))
        text = {"-": "\N{MINUS SIGN}", "x": "\N{MULTIPLICATION SIGN}"}.get(text, text)
        self.axes.text(x, y, text, fontsize=FONT + 1, color=INK, ha="center", va="center", zorder=4)
        return Node(x, y, 0.3, 0.3)

    def cells(
        self, x: float, y: float, rows: Sequence[Sequence[Content]], *, title: str = ""
    ) -> Node:
        """Draws a grid of channels and frames with its upper left corner at (x, y)."""
        for down, row in enumerate(rows):
            for across, content in enumerate(row):
                self._cell(x + across * CELL, y + down * CELL, content)
        width, height = CELL * len(rows[0]), CELL * len(rows)
        if title:
            self.text(x + width / 2, y - 0.1, title, va="baseline")
        return Node(x + width / 2, y + height / 2, width, height)

    def pixels(self, x: float, y: float, rows: Sequence[Sequence[int | None]]) -> None:
        """Draws the pixels of one frame; the pixels that are read have its color."""
        side = 0.13
        for down, row in enumerate(rows):
            for across, frame in enumerate(row):
                color = WHITE if frame is None else FRAMES[frame]
                corner = x + across * side, y + down * side
                self.axes.add_patch(Rectangle(corner, side, side, fc=color, ec=INK, lw=0.7))

    def column(self, x: float, y: float, frame: int, *, title: str, channels: int = 3) -> Node:
        """Draws one frame with its channels, centered at (x, y)."""
        top = y - CELL * channels / 2
        for down in range(channels):
            self._rectangle(x - CELL / 2, top + down * CELL, CELL, FRAMES[frame - 1])
        self.text(x, top - 0.09, title, va="baseline")
        return Node(x, y, CELL, CELL * channels)

    def frame_around(self, x: float, y: float, width: float, height: float) -> Node:
        """Draws a dashed frame around cells, with its upper left corner at (x, y)."""
        self.axes.add_patch(
            Rectangle((x, y), width, height, fc="none", ec=INK, lw=1.6, ls=(0, (3, 2)), zorder=5)
        )
        return Node(x + width / 2, y + height / 2, width, height)

    def arrow(
        self,
        start: Node,
        end: Node,
        *,
        leave: Side = "right",
        enter: Side = "left",
        label: str = "",
        bend: float | None = None,
    ) -> None:
        """Draws an arrow between nodes, with right angles if they are not aligned.

        `bend` is where a line that leaves and enters sideways turns; half-way when not given.
        """
        (x0, y0), (x1, y1) = start.at(leave), end.at(enter)
        if leave in ("left", "right"):
            level = enter in ("left", "right")
            middle = (x0 + x1) / 2 if bend is None else bend
            corners = [(middle, y0), (middle, y1)] if level else [(x1, y0)]
        else:
            corners = [(x0, y1)] if enter in ("left", "right") else []
        self.line([(x0, y0), *corners, (x1, y1)])
        if label:
            self.note((x0 + x1) / 2, min(y0, y1) - 0.12, label)

    def line(self, points: Sequence[Point], *, head: bool = True) -> None:
        """Draws a line through the points with an arrow head at the last one."""
        bare = _without_straight_corners(points)
        xs, ys = zip(*(bare[:-1] if head else bare), strict=True)
        self.axes.plot(xs, ys, color=INK, lw=1.1, solid_joinstyle="round", zorder=2)
        if head:
            tip = FancyArrowPatch(
                bare[-2],
                bare[-1],
                arrowstyle="-|>",
                mutation_scale=9,
                color=INK,
                lw=1.1,
                shrinkA=0,
                shrinkB=0,
                zorder=2,
            )
            self.axes.add_patch(tip)

    def _cell(self, x: float, y: float, content: Content) -> None:
        middle = x + CELL / 2, y + CELL / 2 + 0.005
        if isinstance(content, str):
            self._rectangle(x, y, CELL, ORANGE)
            self.text(*middle, content, size=SMALL)
        elif content is None:
            self._rectangle(x, y, CELL, WHITE)
            self.text(*middle, "0", size=SMALL, ink=FAINT)
        elif isinstance(content, int):
            self._rectangle(x, y, CELL, FRAMES[content - 1])
            self.text(*middle, str(content), size=SMALL, ink=WHITE if content > 4 else INK)
        else:
            self._stripes(x, y, content)

    def _stripes(self, x: float, y: float, frames: Iterable[int | None]) -> None:
        """Draws a cell that mixes several frames."""
        colors = [WHITE if frame is None else FRAMES[frame - 1] for frame in frames]
        wide = CELL / len(colors)
        for number, color in enumerate(colors):
            self._rectangle(x + number * wide, y, wide, color, edge="none")
        self._rectangle(x, y, CELL, "none")

    def _rectangle(self, x: float, y: float, width: float, color: str, edge: str = INK) -> None:
        self.axes.add_patch(Rectangle((x, y), width, CELL, fc=color, ec=edge, lw=0.7))


def _without_straight_corners(points: Sequence[Point]) -> list[Point]:
    """Ends and corners of a line."""
    kept = [points[0]]
    for number, point in enumerate(points[1:-1], start=1):
        before, behind = kept[-1], points[number + 1]
        level = before[1] == point[1] == behind[1]
        upright = before[0] == point[0] == behind[0]
        if point != before and not level and not upright:
            kept.append(point)
    return [*kept, points[-1]]
