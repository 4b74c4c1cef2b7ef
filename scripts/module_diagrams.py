"""Draws the figures of docs/explain/modules.md: `python scripts/module_diagrams.py`.

`--out DIR` writes elsewhere and `--png` writes PNG files for viewing. diagram_parts.py defines the
elements of a drawing; motion_diagrams.py draws the modules that compare frames. A test draws all
of them and compares them with the page.
"""

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import motion_diagrams
from diagram_parts import CELL, FAINT, SMALL, Canvas, Content, Node

TARGET = Path(__file__).resolve().parents[1] / "docs" / "figures"

T = 5
PLAIN_ROW: list[Content] = [1, 2, 3, 4, 5]
NEXT_ROW: list[Content] = [2, 3, 4, 5, None]
PREVIOUS_ROW: list[Content] = [None, 1, 2, 3, 4]
# Frames that frame 3 depends on after one, two and three temporal convolutions.
SEEN: list[Content] = [(2, 3, 4), (1, 2, 3, 4, 5), (1, 2, 3, 4, 5)]


def main() -> None:
    """Draws all figures."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--out", type=Path, default=TARGET)
    words.add_argument("--png", action="store_true", help="write PNG instead of SVG")
    chosen = words.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        draw().save(chosen.out / f"module_{name}.{'png' if chosen.png else 'svg'}")


def positions() -> Canvas:
    """Residual block with its positions, and the legend of all figures."""
    canvas, y = Canvas(2.95), 1.0
    parts = [
        canvas.box(2.2, y, "conv1 1 x 1\nBN, ReLU", weights=True),
        canvas.box(4.0, y, "conv2 3 x 3\nBN, ReLU", weights=True),
        canvas.box(5.8, y, "conv3 1 x 1\nBN", weights=True),
        canvas.sign(7.3, y, "+"),
    ]
    canvas.line([(0.2, y), parts[0].at("left")])
    for left, right in pairwise(parts):
        canvas.arrow(left, right)
    canvas.line([parts[-1].at("right"), (8.9, y)])
    canvas.line([(0.95, y), (0.95, 0.3), (7.3, 0.3), parts[-1].at("top")])
    canvas.note(4.1, 0.17, "identity path")
    marks = ((1.3, "a", "before_conv1"), (3.1, "b", "after_conv1"), (4.9, "c", "after_conv2"))
    for x, letter, name in (*marks, (6.65, "d", "before_addition")):
        canvas.sign(x, y, letter)
        canvas.note(x, y + 0.36, name)
    for x, name in ((0.48, "block"), (8.1, "after_block")):
        canvas.sign(x, y, "")
        canvas.note(x, y + 0.36, name)
    for part, name in zip(parts, ("replace_conv1", "replace_conv2", "replace_conv3"), strict=False):
        canvas.note(part.x, y + 0.58, name)
    for x, wide in ((1.3, "4p"), (3.1, "p"), (4.9, "p"), (6.65, "4p")):
        canvas.text(x, y - 0.27, wide, size=SMALL, ink=FAINT)
    canvas.cells(0.35, 2.35, [[1, 2, 3, 4, 5]])
    canvas.note(1.02, 2.78, "frames of one channel")
    canvas.cells(2.45, 2.35, [[None, (1, 2), (1, 2, 3)]])
    canvas.note(2.87, 2.78, "zeros; a mix of frames")
    canvas.cells(4.35, 2.35, [["0", "1", "0"]])
    canvas.note(4.75, 2.78, "weights")
    canvas.box(6.1, 2.48, "operator\nwith weights", weights=True)
    canvas.box(7.55, 2.48, "operator\nwithout")
    canvas.sign(8.6, 2.48, "x")
    canvas.note(8.6, 2.78, "arithmetic")
    return canvas


def shift() -> Canvas:
    """TSM: both directions, and the past only."""
    canvas = Canvas(2.85)
    plain, rest = [PLAIN_ROW], [PLAIN_ROW] * 6
    before = canvas.cells(0.75, 0.45, plain * 8, title="x")
    after = canvas.cells(3.85, 0.45, [NEXT_ROW, PREVIOUS_ROW, *rest], title="shifted")
    causal = canvas.cells(6.6, 0.45, [PREVIOUS_ROW, *plain, *rest], title="shifted, causal")
    canvas.arrow(before, after)
    canvas.note(3.02, 1.4, "move")
    canvas.note(8.02, 0.59, "from the past", ha="left")
    for x, y, text in ((5.28, 0.59, "from next"), (5.28, 0.86, "from previous")):
        canvas.note(x, y, text, ha="left")
    canvas.note(1.42, 2.74, "frames")
    canvas.text(0.55, 1.53, "channels", size=SMALL, ink=FAINT, rotation="vertical")
    assert causal.width == after.width
    return canvas


def tim() -> Canvas:
    """TIM: a kernel for every channel, and its initialization."""
    canvas = Canvas(2.1)
    mixed: list[Content] = [(None, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, None)]
    before = canvas.cells(0.75, 0.45, [PLAIN_ROW] * 5, title="x")
    kernels = [["0", "0", "1"], ["1", "0", "0"], *[["0", "1", "0"]] * 3]
    taps = canvas.cells(3.55, 0.45, kernels, title="w at the start")
    after = canvas.cells(6.3, 0.45, [mixed] * 5, title="y after training")
    canvas.frame_around(0.75 + CELL, 0.45, 3 * CELL, CELL)
    canvas.arrow(before, taps)
    canvas.arrow(taps, after)
    for y, text in ((0.59, "next"), (0.86, "previous"), (1.4, "itself")):
        canvas.note(4.42, y, text, ha="left")
    canvas.note(1.42, 1.94, "three neighbors of one channel")
    canvas.note(3.95, 1.94, "taps: previous, same, next")
    canvas.note(6.97, 1.94, "every channel mixes in its own way")
    return canvas


def groups(canvas: Canvas, *, frame: int = 3) -> list[float]:
    """Draws the four groups of channels at the left; returns the heights of their rows."""
    heights = [0.55 + 0.72 * number for number in range(4)]
    for number, y in enumerate(heights):
        canvas.cells(0.65, y - CELL / 2, [[frame] * 2])
        canvas.text(0.42, y, f"x{number}")
    canvas.note(0.92, 0.2, "a quarter each")
    return heights


def mta() -> Canvas:
    """MTA: a chain of groups."""
    canvas = Canvas(3.1)
    *chained, last = groups(canvas)
    below: Node | None = None
    for number, y in enumerate(chained):
        source = Node(0.92, y, 2 * CELL, CELL)
        if below is not None:
            total = canvas.sign(2.1, y, "+")
            canvas.line([below.at("bottom"), (below.x, y - 0.36), (2.1, y - 0.36), total.at("top")])
            canvas.arrow(source, total)
            source = total
        taps = canvas.box(3.4, y, f"S{number}: taps along time", weights=True)
        spatial = canvas.box(5.75, y, f"K{number}: 3 x 3, BN, ReLU", weights=True)
        canvas.arrow(source, taps)
        canvas.arrow(taps, spatial)
        below = canvas.cells(7.35, y - CELL / 2, [[SEEN[number]] * 2])
        canvas.arrow(spatial, below)
        canvas.text(8.15, y, f"z{number}")
    taps = canvas.box(3.4, last, "S3: taps along time", weights=True)
    canvas.arrow(Node(0.92, last, 2 * CELL, CELL), taps)
    canvas.arrow(taps, canvas.cells(7.35, last - CELL / 2, [[(2, 4)] * 2]))
    canvas.text(8.15, last, "z3")
    canvas.note(7.62, 0.2, "side by side: y")
    return canvas


def grouped(temporal: list[str], notes: tuple[str, str]) -> Canvas:
    """GST and GTE: the left half of the channels stays in its frame, the right one sees three."""
    canvas = Canvas(2.55)
    canvas.cells(0.75, 0.5, [[1, 2, 3]] * 6)
    for across, name in enumerate(("t-1", "t", "t+1")):
        canvas.note(0.75 + (across + 0.5) * CELL, 0.5 + 6.5 * CELL, name)
    left = canvas.frame_around(0.75 + CELL, 0.5, CELL, 3 * CELL)
    right = canvas.frame_around(0.75, 0.5 + 3 * CELL, 3 * CELL, 3 * CELL)
    spatial = canvas.box(3.0, left.y, "3 x 3", weights=True)
    canvas.line([left.at("top"), (left.x, 0.2), (spatial.x, 0.2), spatial.at("top")])
    steps = [canvas.box(3.0 + 1.9 * n, right.y, t, weights=True) for n, t in enumerate(temporal)]
    canvas.line([(0.75 + 3 * CELL, right.y), steps[0].at("left")])
    for first, second in pairwise(steps):
        canvas.arrow(first, second)
    rows: list[list[Content]] = [[2]] * 3 + [[(1, 2, 3)]]
    canvas.cells(7.3, 0.77, rows, title="y[t]")
    top, bottom = Node(7.3, 0.77 + 1.5 * CELL, 0, 0), Node(7.3, right.y, 0, 0)
    canvas.arrow(spatial, top)
    canvas.arrow(steps[-1], bottom)
    canvas.note(0.45, left.y, "C/2")
    canvas.note(0.45, right.y, "C/2")
    for node, text in ((top, notes[0]), (bottom, notes[1])):
        canvas.note(7.7, node.y, text, ha="left")
    return canvas


def gst() -> Canvas:
    """GST: a 2D and a 3D convolution side by side."""
    return grouped(["3 x 3 x 3"], ("3C/4: this frame", "C/4: three frames"))


def gte() -> Canvas:
    """GTE: the 3D convolution is split in two."""
    return grouped(["LTS: 3 x 1 x 1\nC/2 to tC", "3 x 3\ntC to tC"], ("(1-t)C", "tC, t = 1/4"))


def smallbig() -> Canvas:
    """SmallBig: the same convolution on the frame and on the maximum around it."""
    canvas, top, bottom = Canvas(2.6), 0.85, 1.95
    before = canvas.cells(0.3, 1.4 - 1.5 * CELL, [PLAIN_ROW] * 3, title="x")
    largest = canvas.box(3.05, bottom, "maximum of 3 x 3 x 3\nor of the clip x 3 x 3")
    small = canvas.box(4.85, top, "K", weights=True)
    big = canvas.box(4.85, bottom, "K", weights=True)
    canvas.note(4.85, 1.42, "the same weights")
    small_norm = canvas.box(6.2, top, "small norm", weights=True)
    big_norm = canvas.box(6.2, bottom, "big norm,\nstarts at 0", weights=True)
    total = canvas.sign(7.4, 1.4, "+")
    canvas.arrow(before, small, bend=1.82)
    canvas.arrow(before, largest, bend=1.82)
    canvas.arrow(largest, big)
    canvas.arrow(small, small_norm)
    canvas.arrow(big, big_norm)
    canvas.arrow(small_norm, total, enter="top")
    canvas.arrow(big_norm, total, enter="bottom")
    rows: list[list[Content]] = [[(1, 2), (1, 2, 3), (2, 3, 4)]] * 3
    after = canvas.cells(8.1, 1.4 - 1.5 * CELL, rows, title="y")
    canvas.arrow(total, after)
    return canvas


def ctnet() -> Canvas:
    """CT: channels as a grid, whose rows and then columns are convolved."""
    canvas, middle = Canvas(2.5), 1.15
    row_grid: list[list[Content]] = [[f"{row}{column}" for column in "0123"] for row in "01"]
    column_grid: list[list[Content]] = [[f"{row}{column}" for row in "01"] for column in "0123"]
    by_row = canvas.cells(0.3, middle - CELL, row_grid, title="channels, a grid")
    canvas.frame_around(0.3, middle - CELL, 4 * CELL, CELL)
    parts = "3 x 3 in space +\n3 taps in time,\nattention"
    rows = canvas.box(2.6, middle, parts, weights=True)
    fusion = canvas.box(4.3, middle, "1 x 1, BN\nReLU", weights=True)
    by_column = canvas.cells(5.2, middle - 2 * CELL, column_grid, title="turned")
    canvas.frame_around(5.2, middle - 2 * CELL, 2 * CELL, CELL)
    columns = canvas.box(7.0, middle, parts, weights=True)
    after = canvas.cells(8.0, middle - CELL, row_grid, title="y")
    for first, second in pairwise((by_row, rows, fusion, by_column, columns, after)):
        canvas.arrow(first, second)
    canvas.note(2.6, middle + 0.6, "a group for every row")
    canvas.note(7.0, middle + 0.6, "a group for every column")
    canvas.note(4.6, 2.3, "numbers are row and column of a channel")
    return canvas


def trn() -> Canvas:
    """TRN: subsets of the frames are scored by a network for their number."""
    canvas, middle = Canvas(2.9), 1.5
    clip = canvas.cells(0.3, middle - 1.5 * CELL, [PLAIN_ROW] * 3)
    canvas.text(clip.x, middle - 0.53, "features")
    total = canvas.sign(7.6, middle, "+")
    lengths: list[tuple[float, list[list[Content]], str]] = [
        (0.5, [PLAIN_ROW], "all 5 frames"),
        (1.17, [[1, 2, 4, 5]], "4, three times"),
        (1.83, [[1, 3, 4]], "3, three times"),
        (2.5, [[2, 4]], "2, three times"),
    ]
    for y, rows, text in lengths:
        width = len(rows[0]) * CELL
        subset = canvas.cells(3.35 - width / 2, y - CELL / 2, rows)
        canvas.arrow(clip, subset, bend=2.1)
        layers = canvas.box(5.8, y, "ReLU, linear, ReLU, linear", weights=True)
        canvas.arrow(subset, layers)
        canvas.arrow(layers, total, bend=7.25)
        canvas.note(3.35, y + 0.25, text)
    canvas.arrow(total, canvas.box(8.4, middle, "scores"))
    return canvas


def cti() -> Canvas:
    """CTI: each group is mixed with the result of the previous one."""
    canvas = Canvas(3.1)
    heights = groups(canvas)
    before = canvas.cells(7.35, heights[0] - CELL / 2, [[3] * 2])
    canvas.line([(0.92 + CELL, heights[0]), before.at("left")])
    canvas.text(8.15, heights[0], "Z0")
    for number, y in enumerate(heights[1:], start=1):
        mixed = canvas.box(3.1, y, f"a * x{number} + (1-a) * Z{number - 1}", weights=True)
        taps = canvas.box(5.75, y, "taps along time", weights=True)
        canvas.line([before.at("bottom"), (before.x, y - 0.36), (3.1, y - 0.36), mixed.at("top")])
        canvas.line([(0.92 + CELL, y), mixed.at("left")])
        canvas.arrow(mixed, taps)
        before = canvas.cells(7.35, y - CELL / 2, [[SEEN[number - 1]] * 2])
        canvas.arrow(taps, before)
        canvas.text(8.15, y, f"Z{number}")
    canvas.note(7.62, 0.2, "side by side: y")
    canvas.note(3.1, 3.0, "a comes from the means of both")
    return canvas


def tam() -> Canvas:
    """TAM: a local and a global branch."""
    canvas, top, bottom = Canvas(3.2), 1.25, 2.45
    clip = canvas.cells(0.3, 1.45, [PLAIN_ROW] * 3)
    canvas.text(0.5, 1.29, "x")
    mean = canvas.box(2.3, clip.y, "mean")
    canvas.arrow(clip, mean)
    local = canvas.box(4.05, top, "local: 3 taps, BN,\nReLU, 1 tap, sigmoid", weights=True)
    whole = canvas.box(4.05, bottom, "global: T to 2T, BN,\nReLU, 3, softmax", weights=True)
    canvas.arrow(mean, local)
    canvas.arrow(mean, whole)
    gates: list[list[Content]] = [["v"] * T] * 3
    gate = canvas.cells(5.3, top - 1.5 * CELL, gates, title="V: every frame")
    kernels: list[list[Content]] = [["k"] * 3] * 3
    taps = canvas.cells(5.57, bottom - 1.5 * CELL, kernels, title="K: its own taps")
    canvas.arrow(local, gate)
    canvas.arrow(whole, taps)
    end = canvas.box(7.45, clip.y, "K * V * x")
    canvas.arrow(gate, end, bend=6.8)
    canvas.arrow(taps, end, bend=6.8)
    canvas.line([clip.at("top"), (clip.x, 0.3), (end.x, 0.3), end.at("top")])
    after = canvas.cells(8.2, 1.45, [[(1, 2, 3), (2, 3, 4), (3, 4, 5)]] * 3, title="y")
    canvas.arrow(end, after)
    return canvas


def tin() -> Canvas:
    """TIN: four groups, shifted by learned fractions of a frame."""
    canvas = Canvas(2.5)
    rows: list[list[Content]] = [
        [(None, 1), (1, 2), (2, 3), (3, 4), (4, 5)],
        [None, (None, 1), (1, 2), (2, 3), (3, 4)],
        [(1, 2), (2, 3), (3, 4), (4, 5), (5, None)],
        [(2, 3), (3, 4), (4, 5), (5, None), None],
        PLAIN_ROW,
        PLAIN_ROW,
    ]
    before = canvas.cells(0.75, 0.45, [PLAIN_ROW] * 6, title="x")
    canvas.frame_around(0.75, 0.45, T * CELL, 4 * CELL)
    net = canvas.box(3.75, 0.8, "mean, layers\nover the clip", weights=True)
    moved = canvas.box(3.75, 1.75, "move, interpolate")
    canvas.line([(0.75 + T * CELL, 0.8), net.at("left")])
    canvas.line([(0.75 + T * CELL, 1.25), (2.4, 1.25), (2.4, 1.75), moved.at("left")])
    canvas.arrow(net, moved, leave="bottom", enter="top")
    canvas.note(4.35, 1.3, "o1, o2, weights")
    after = canvas.cells(6.2, 0.45, rows, title="y for o1 = 1/2, o2 = 3/2")
    canvas.line([moved.at("right"), (5.5, 1.75), (5.5, after.y), (6.2, after.y)])
    for row, text in enumerate(("by o1", "by o2", "by -o1", "by -o2", "stays", "stays")):
        canvas.note(7.65, 0.45 + (row + 0.5) * CELL, text, ha="left")
    canvas.note(1.42, 2.3, "a quarter of the channels moves")
    assert before.width == after.width
    return canvas


def gsm() -> Canvas:
    """GSM: the gated part is shifted, the rest is unchanged."""
    canvas, top, bottom = Canvas(2.8), 0.95, 2.1
    canvas.cells(0.3, 0.9, [PLAIN_ROW] * 4, title="x, two halves")
    gate = canvas.box(2.85, top, "BN, ReLU\n3 x 3 x 3, tanh", weights=True)
    taken = canvas.sign(4.2, top, "x")
    rest = canvas.sign(4.2, bottom, "-")
    moved = canvas.cells(5.2, top - 2 * CELL, [NEXT_ROW] * 2 + [PREVIOUS_ROW] * 2)
    canvas.line([(0.3 + T * CELL, top), gate.at("left")])
    canvas.arrow(gate, taken, label="g")
    canvas.line([(0.3 + T * CELL, 1.6), (4.2, 1.6), taken.at("bottom")])
    canvas.line([(4.2, 1.6), rest.at("top")])
    canvas.arrow(taken, moved)
    canvas.line([(4.75, top), (4.75, bottom), rest.at("right")])
    canvas.note(5.87, top + 0.7, "g * x, shifted")
    total = canvas.sign(7.3, top, "+")
    canvas.arrow(moved, total)
    canvas.line([rest.at("bottom"), (4.2, 2.55), (7.3, 2.55), total.at("bottom")])
    canvas.note(5.9, 2.43, "x - g * x stays")
    after = canvas.cells(8.0, top - 2 * CELL, [[(2, 3, 4)] * 3] * 4, title="y")
    canvas.arrow(total, after)
    return canvas


def gsf() -> Canvas:
    """GSF: the moved part and the rest are weighted."""
    canvas, top, bottom = Canvas(2.8), 0.95, 2.4
    canvas.cells(0.3, top - 2 * CELL + 0.4, [PLAIN_ROW] * 4, title="x, two halves")
    gate = canvas.box(2.75, top, "BN, ReLU\n3 x 3 x 3, tanh", weights=True)
    taken = canvas.sign(3.95, top, "x")
    rows = [NEXT_ROW] * 2 + [PREVIOUS_ROW] * 2
    moved = canvas.cells(4.75, top - 2 * CELL, rows, title="m: g * x, shifted")
    rest = canvas.sign(4.35, bottom, "-")
    right = 0.3 + T * CELL
    canvas.line([(right, top), gate.at("left")])
    canvas.arrow(gate, taken, label="g")
    canvas.arrow(taken, moved)
    canvas.line([(right, 1.6), (3.95, 1.6), taken.at("bottom")])
    canvas.line([(1.95, 1.6), (1.95, bottom), rest.at("left")])
    canvas.line([(4.35, top), rest.at("top")])
    share = canvas.box(6.35, 1.84, "means, 3 x 3\nsigmoid", weights=True)
    total = canvas.box(7.4, top, "w * m +\n(1-w) * r")
    canvas.line([moved.at("bottom"), (moved.x, share.y), share.at("left")])
    canvas.line([(share.x, bottom), share.at("bottom")])
    canvas.arrow(moved, total)
    below = total.y + total.height / 2
    canvas.line([share.at("right"), (7.25, share.y), (7.25, below)])
    canvas.line([rest.at("right"), (7.6, bottom), (7.6, below)])
    canvas.note(7.13, 1.72, "w")
    canvas.note(5.3, bottom + 0.15, "r: x - g * x")
    after = canvas.cells(8.2, top - 2 * CELL, [[(2, 3, 4)] * 3] * 4, title="y")
    canvas.arrow(total, after)
    return canvas


def action() -> Canvas:
    """ACTION: three gates on the frames behind a temporal convolution."""
    canvas, middle = Canvas(3.1), 1.7
    mixed: list[Content] = [(1, 2, 3), (2, 3, 4), (3, 4, 5)]
    before = canvas.cells(0.15, middle - 1.5 * CELL, [PLAIN_ROW] * 3, title="x")
    taps = canvas.box(2.15, middle, "taps along\ntime", weights=True)
    shifted = canvas.cells(2.9, middle - 1.5 * CELL, [mixed] * 3)
    canvas.text(shifted.x, middle + 2 * CELL, "s")
    canvas.arrow(before, taps)
    canvas.arrow(taps, shifted)
    end = canvas.box(7.6, middle, "s * (3 + g1\n+ g2 + g3)")
    upper = canvas.box(5.2, 0.9, "mean of channels\n3 x 3 x 3, sigmoid", weights=True)
    inner = canvas.box(5.2, middle, "mean, 1 x 1, 3 taps\nReLU, 1 x 1, sigmoid", weights=True)
    lower = canvas.box(5.2, 2.5, "s[t+1] - s[t], as ME\n1 x 1, sigmoid", weights=True)
    for path in (upper, inner, lower):
        canvas.arrow(shifted, path, bend=3.9)
    canvas.arrow(upper, end, enter="top")
    canvas.arrow(inner, end)
    canvas.arrow(lower, end, enter="bottom")
    canvas.note(6.75, upper.y - 0.13, "g1, a map")
    canvas.note(6.55, middle - 0.13, "g2")
    canvas.note(6.75, lower.y - 0.13, "g3")
    canvas.line([shifted.at("top"), (shifted.x, 0.3), (7.9, 0.3), (7.9, end.at("top")[1])])
    after = canvas.cells(8.3, middle - 1.5 * CELL, [mixed] * 3, title="y")
    canvas.arrow(end, after)
    return canvas


def conv() -> Canvas:
    """Input values that one output value depends on."""
    canvas = Canvas(1.75)
    kinds = (
        ("2D, 3 x 3", (2,), True, "all channels"),
        ("average", (1, 2, 3), False, "its own, fixed"),
        ("TIM", (1, 2, 3), False, "its own, learned"),
        ("(2+1)D", (1, 2, 3), False, "all channels"),
        ("I3D 3x1x1", (1, 2, 3), False, "all channels"),
        ("C3D", (1, 2, 3), True, "all channels"),
    )
    for number, (title, frames, wide, channels) in enumerate(kinds):
        x = 0.3 + 1.48 * number
        for frame in (1, 2, 3):
            rows = [[_read(frame, frames, i, j, wide=wide) for j in range(3)] for i in range(3)]
            canvas.pixels(x + 0.43 * (frame - 1), 0.55, rows)
        canvas.text(x + 0.63, 0.42, title, va="baseline")
        canvas.note(x + 0.63, 1.15, channels)
    canvas.note(4.6, 1.5, "the frames t-1, t and t+1 side by side; squares are pixels")
    return canvas


def _read(frame: int, frames: tuple[int, ...], row: int, column: int, *, wide: bool) -> int | None:
    """Frame of a pixel that is read, or None."""
    return frame if frame in frames and (wide or (row, column) == (1, 1)) else None


def nonlocal_block() -> Canvas:
    """Non-local: attention over the whole clip."""
    canvas = Canvas(2.7)
    clip = canvas.cells(0.3, 1.0, [PLAIN_ROW] * 3)
    canvas.text(0.5, 0.84, "x")
    query = canvas.box(2.75, 0.75, "theta: 1 x 1", weights=True)
    key = canvas.box(2.75, clip.y, "phi: 1 x 1, pool", weights=True)
    value = canvas.box(2.75, 2.1, "g: 1 x 1, pool", weights=True)
    alike = canvas.box(4.6, 1.08, "softmax over\nall positions")
    found = canvas.sign(5.75, clip.y, "x")
    wide = canvas.box(6.75, clip.y, "W: 1 x 1, BN", weights=True)
    total = canvas.sign(7.75, clip.y, "+")
    for layer in (query, key, value):
        canvas.arrow(clip, layer, bend=1.8)
    canvas.arrow(query, alike, bend=3.75)
    canvas.arrow(key, alike, bend=3.75)
    canvas.arrow(alike, found, enter="top")
    canvas.arrow(value, found, enter="bottom")
    canvas.arrow(found, wide)
    canvas.arrow(wide, total)
    canvas.line([clip.at("top"), (clip.x, 0.3), (7.75, 0.3), total.at("top")])
    after = canvas.cells(8.2, 1.0, [[(1, 2, 3, 4, 5)] * 3] * 3, title="y")
    canvas.arrow(total, after)
    return canvas


def causal() -> Canvas:
    """Taps of both forms, and the memory of a stream."""
    canvas = Canvas(2.1)
    for x, title, taps in ((0.4, "as in the papers", (2, 3, 4)), (3.1, "causal", (1, 2, 3))):
        source = canvas.cells(x, 0.5, [PLAIN_ROW], title=title)
        around = canvas.frame_around(x + (taps[0] - 1) * CELL, 0.5, 3 * CELL, CELL)
        after = canvas.cells(x + 2 * CELL, 1.4, [[taps]])
        canvas.line([around.at("bottom"), (around.x, 1.08), (after.x, 1.08), after.at("top")])
        canvas.note(x + 2.5 * CELL, 1.87, "frame 3 of the result")
        assert source.width == T * CELL
    newest = canvas.cells(5.75, 0.5, [[3]], title="frame 3")
    module = canvas.box(6.9, newest.y, "module", weights=True)
    result = canvas.cells(8.05, 0.5, [[(1, 2, 3)]], title="result 3")
    memory = canvas.cells(6.9 - CELL, 1.4, [[1, 2]])
    canvas.arrow(newest, module)
    canvas.arrow(module, result)
    canvas.line([(6.78, 1.4), (6.78, module.y + module.height / 2)])
    canvas.line([(7.02, module.y + module.height / 2), (7.02, 1.4)])
    canvas.note(6.9, 1.87, "memory of the stream: frames 1 and 2")
    assert memory.width == 2 * CELL
    return canvas


FIGURES: dict[str, Callable[[], Canvas]] = {
    "positions": positions,
    "shift": shift,
    "tim": tim,
    "mem": motion_diagrams.mem,
    "me": motion_diagrams.me,
    "mta": mta,
    "gst": gst,
    "gte": gte,
    "ctnet": ctnet,
    "smallbig": smallbig,
    "trn": trn,
    "sme": motion_diagrams.sme,
    "cti": cti,
    "tam": tam,
    "stm": motion_diagrams.stm,
    "ms": motion_diagrams.motion_squeeze,
    "tin": tin,
    "gsm": gsm,
    "gsf": gsf,
    "action": action,
    "snippets": motion_diagrams.snippets,
    "tdm": motion_diagrams.tdm,
    "conv": conv,
    "nonlocal": nonlocal_block,
    "causal": causal,
}

if __name__ == "__main__":
    main()
