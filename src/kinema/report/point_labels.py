"""Labels of points in a plot that lie on no marker, no error bar and no other label."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

Mark = tuple[float, float, float]  # x, y and half the length of the error bar, in data units

MARKER_PT = 5.0  # half the side of a marker
# Gaps between a mark and its label, and directions of the label, in the order of preference.
GAPS_PT = (7, 13, 20, 28, 38, 50, 64, 80, 100, 125, 155)
DIRECTIONS = np.deg2rad((0, 45, -45, 180, 90, -90, 135, -135, 22, -22, 68, -68, 158, -158))
LINE_FROM_PT = 12  # a label that is farther away has a line to its mark


@dataclass(frozen=True)
class _Place:
    """Possible place of a label, in pixels."""

    gap_pt: float
    box: Bbox
    line: list[Bbox]  # between mark and label, as small boxes; empty if there is none


def label_points(
    plot: Any,
    marks: Sequence[Mark],
    texts: Sequence[str],
    *,
    others: Sequence[Mark] = (),
    fontsize: float = 8,
) -> list[Any]:
    """Labels each mark at the nearest free place, and returns the annotations.

    Call it when the figure has everything else: it settles the layout. `others` are marks without
    a label. A label for which no place is free takes the one with the fewest overlaps.
    """
    figure = plot.figure
    figure.draw_without_rendering()
    pixels = figure.dpi / 72
    boxes = [_mark_box(plot, mark, MARKER_PT * pixels) for mark in (*marks, *others)]
    taken, labels = list(boxes), []
    looks = {"ha": "center", "va": "center", "fontsize": fontsize, "parse_math": False}
    arrow = {"arrowstyle": "-", "lw": 0.5, "color": "gray", "shrinkA": 1, "shrinkB": MARKER_PT}
    for number in sorted(range(len(marks)), key=lambda i: -marks[i][1]):  # from top to bottom
        x, y, _ = marks[number]
        start = plot.transData.transform((x, y))
        label = plot.annotate(
            texts[number],
            (x, y),
            xytext=(0, 0),
            textcoords="offset points",
            arrowprops=arrow,
            **looks,
        )
        label.set_in_layout(False)
        size = np.array(Text.get_window_extent(label).size)  # an annotation's includes its line
        free = [box for box in taken if box is not boxes[number]]
        place = _best(_places(start, size, pixels), plot.bbox, taken, free)
        label.set_position(tuple((_center(place.box) - start) / pixels))
        if not place.line:
            label.arrow_patch.set_visible(False)
        taken += [place.box, *place.line]
        labels.append(label)
    return labels


def _mark_box(plot: Any, mark: Mark, half_px: float) -> Bbox:
    x, y, spread = mark
    ends = plot.transData.transform([(x, y - spread), (x, y + spread)])
    return Bbox([ends.min(0) - half_px, ends.max(0) + half_px])


def _places(start: NDArray[Any], size: NDArray[Any], pixels: float) -> Iterator[_Place]:
    for gap_pt in GAPS_PT:
        for angle in DIRECTIONS:
            toward = np.array([np.cos(angle), np.sin(angle)])
            center = start + toward * (gap_pt * pixels + size / 2)
            steps = np.linspace(0.3, 0.7, 5)[:, None] if gap_pt > LINE_FROM_PT else ()
            line = [Bbox([at - 1, at + 1]) for at in (start + s * (center - start) for s in steps)]
            yield _Place(gap_pt, Bbox([center - size / 2, center + size / 2]), line)


def _best(
    places: Iterator[_Place], inside: Bbox, taken: Sequence[Bbox], free: Sequence[Bbox]
) -> _Place:
    """First place that covers nothing; `taken` are boxes for labels, `free` those for lines."""
    costs: list[tuple[int, _Place]] = []
    for place in places:
        cost = 10 * sum(place.box.overlaps(box) for box in taken)  # worse than a crossing line
        cost += sum(part.overlaps(box) for part in place.line for box in free)
        outside = place.box.x0 < inside.x0 or place.box.x1 > inside.x1
        outside |= place.box.y0 < inside.y0 or place.box.y1 > inside.y1
        costs.append((cost + 100 * outside, place))
        if not costs[-1][0]:
            break
    return min(costs, key=lambda pair: pair[0])[1]


def _center(box: Bbox) -> NDArray[Any]:
    return np.array([box.x0 + box.x1, box.y0 + box.y1]) / 2
