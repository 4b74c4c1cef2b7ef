"""Diagrams of what compares frames: MEM, ME, TDN's parts, SME, STM and MotionSqueeze."""

from diagram_parts import CELL, Canvas, Node

UPPER, LOWER = 0.95, 2.2  # heights of the two frames


def compared(canvas: Canvas) -> tuple[Node, Node]:
    """Draws the two frames that motion modules compare."""
    return (
        canvas.column(0.5, UPPER, 2, title="x[t]"),
        canvas.column(0.5, LOWER, 3, title="x[t+1]"),
    )


def finished(canvas: Canvas, gate: Node, text: str, *, frame: Node) -> None:
    """Draws the gate on the frame, which bypasses everything above."""
    end = canvas.box(7.75, UPPER, text)
    canvas.arrow(gate, end)
    canvas.line([(frame.x + CELL / 2, UPPER - 0.2), (1.0, UPPER - 0.2), (1.0, 0.25)], head=False)
    canvas.line([(1.0, 0.25), (end.x, 0.25), end.at("top")])
    after = canvas.column(8.8, UPPER, 2, title="y[t]")
    canvas.arrow(end, after)


def reduced_difference(canvas: Canvas, x: float) -> tuple[Node, Node]:
    """Draws the frame, and at x its difference to the next one, which a convolution has moved."""
    now, following = compared(canvas)
    difference = canvas.sign(x, UPPER, "-")
    upper = canvas.box(1.75, UPPER, "1 x 1, BN", weights=True)
    lower = canvas.box(1.75, LOWER, "1 x 1, BN", weights=True)
    moved = canvas.box(3.0, LOWER, "3 x 3 for\neach channel", weights=True)
    canvas.arrow(now, upper)
    canvas.arrow(upper, difference)
    canvas.arrow(following, lower)
    canvas.arrow(lower, moved)
    canvas.arrow(moved, difference, enter="bottom")
    return now, difference


def mem() -> Canvas:
    """MEM: the difference of two pooled frames becomes a gate."""
    canvas = Canvas(2.75)
    now, following = compared(canvas)
    difference = canvas.sign(4.3, UPPER, "-")
    for frame, y, layer in ((now, UPPER, "W1: C to C/8"), (following, LOWER, "W2: C to C/8")):
        mean = canvas.box(1.65, y, "mean")
        narrow = canvas.box(3.05, y, layer, weights=True)
        canvas.arrow(frame, mean)
        canvas.arrow(mean, narrow)
        canvas.arrow(narrow, difference, enter="left" if y == UPPER else "bottom")
    gate = canvas.box(5.75, UPPER, "W3: C/8 to C\nsigmoid", weights=True)
    canvas.arrow(difference, gate)
    finished(canvas, gate, "g * x", frame=now)
    canvas.note(5.75, UPPER + 0.42, "g, a number for every channel")
    return canvas


def me() -> Canvas:
    """ME: the difference of two maps becomes a gate."""
    canvas = Canvas(2.75)
    now, difference = reduced_difference(canvas, 3.75)
    mean = canvas.box(4.6, UPPER, "mean")
    gate = canvas.box(6.05, UPPER, "1 x 1, BN\nsigmoid - 1/2", weights=True)
    canvas.arrow(difference, mean)
    canvas.arrow(mean, gate)
    finished(canvas, gate, "x + a * x", frame=now)
    canvas.note(1.75, (UPPER + LOWER) / 2, "same layer, C to C/16")
    canvas.note(6.05, UPPER + 0.42, "a, C/16 to C")
    return canvas


def tdm() -> Canvas:
    """TDM: the difference of two maps becomes a gate for every pixel."""
    canvas = Canvas(2.75)
    now, difference = reduced_difference(canvas, 3.5)
    fine = canvas.box(4.65, 1.55, "3 x 3, BN", weights=True)
    coarse = canvas.box(4.65, LOWER, "half the size\n3 x 3, BN", weights=True)
    mean = canvas.sign(5.55, UPPER, "+")
    gate = canvas.box(6.3, UPPER, "1 x 1, BN\nsigmoid", weights=True)
    canvas.arrow(difference, mean)
    for path in (fine, coarse):
        canvas.line([(3.9, UPPER), (3.9, path.y), path.at("left")])
        canvas.line([path.at("right"), (5.55, path.y), mean.at("bottom")])
    canvas.arrow(mean, gate)
    finished(canvas, gate, "x * (1/2 + g)", frame=now)
    canvas.note(1.75, (UPPER + LOWER) / 2, "same layer, C to C/16")
    canvas.note(7.2, UPPER + 0.42, "g, mean with")
    canvas.note(7.2, UPPER + 0.62, "that of x[t-1]")
    return canvas


def snippets() -> Canvas:
    """TDN's short-term branch: differences in stem and res2."""
    canvas = Canvas(2.4)
    upper, lower = 0.7, 1.8
    frames = canvas.cells(0.3, upper - CELL / 2, [[1, 2, 3, 4, 5]], title="a snippet")
    stem = canvas.box(3.0, upper, "stem", weights=True)
    motion = canvas.box(3.2, lower, "stem of 12 channels", weights=True)
    first, second = canvas.sign(4.6, upper, "+"), canvas.sign(7.0, upper, "+")
    res2 = canvas.box(5.8, upper, "res2", weights=True)
    small = canvas.box(5.8, lower, "its own res2", weights=True)
    canvas.arrow(frames, stem, label="3")
    canvas.line([frames.at("bottom"), (frames.x, lower), motion.at("left")])
    canvas.note(1.5, lower - 0.12, "4 differences,")
    canvas.note(1.5, lower + 0.14, "half the size")
    for left, right in ((stem, first), (first, res2), (res2, second)):
        canvas.arrow(left, right)
    canvas.arrow(motion, small)
    canvas.line([(4.6, lower), first.at("bottom")])
    canvas.line([small.at("right"), (7.0, lower), second.at("bottom")])
    canvas.line([second.at("right"), (7.9, upper)])
    canvas.note(8.4, upper, "res3 to res5")
    return canvas


def sme() -> Canvas:
    """SME: alignment, pyramid, gate."""
    canvas = Canvas(2.75)
    now, following = compared(canvas)
    upper = canvas.box(1.75, UPPER, "1 x 1, BN", weights=True)
    lower = canvas.box(1.75, LOWER, "1 x 1, BN", weights=True)
    alike = canvas.box(2.95, (UPPER + LOWER) / 2, "attention")
    aligned = canvas.sign(3.75, LOWER, "x")
    levels = canvas.box(4.75, LOWER, "F0 to F4\n3 x 3 chain", weights=True)
    difference = canvas.sign(4.75, UPPER, "-")
    canvas.arrow(now, upper)
    canvas.arrow(following, lower)
    canvas.arrow(upper, difference)
    canvas.arrow(upper, alike, enter="top")
    canvas.arrow(lower, alike, enter="bottom")
    canvas.arrow(lower, aligned)
    canvas.arrow(alike, aligned, enter="top")
    canvas.arrow(aligned, levels)
    canvas.arrow(levels, difference, leave="top", enter="bottom")
    mean = canvas.box(5.45, UPPER, "mean")
    gate = canvas.box(6.55, UPPER, "1 x 1, BN\nsigmoid", weights=True)
    canvas.arrow(difference, mean)
    canvas.arrow(mean, gate)
    finished(canvas, gate, "x + g * x", frame=now)
    canvas.note(3.15, LOWER + 0.28, "what resembles x[t]")
    canvas.note(6.55, UPPER + 0.42, "g, C/16 to C")
    return canvas


def stm() -> Canvas:
    """STM: two paths, added."""
    canvas = Canvas(3.0)
    now = canvas.column(0.5, 0.75, 2, title="x[t]")
    following = canvas.column(0.5, 2.3, 3, title="x[t+1]")
    taps = canvas.box(2.3, 0.75, "taps along time", weights=True)
    spatial = canvas.box(5.9, 0.75, "conv2: 3 x 3", weights=True)
    canvas.arrow(now, taps)
    canvas.arrow(taps, spatial)
    canvas.note(4.1, 0.63, "appearance over time")
    upper = canvas.box(2.3, 1.5, "1 x 1, BN", weights=True)
    lower = canvas.box(2.3, 2.3, "1 x 1, BN", weights=True)
    moved = canvas.box(3.7, 2.3, "3 x 3 for\neach channel", weights=True)
    difference = canvas.sign(4.6, 1.5, "-")
    wide = canvas.box(5.9, 1.5, "1 x 1", weights=True)
    canvas.line([(0.5 + CELL / 2, 1.05), (1.1, 1.05), (1.1, 1.5), upper.at("left")])
    canvas.arrow(following, lower)
    canvas.arrow(lower, moved)
    canvas.arrow(upper, difference)
    canvas.arrow(moved, difference, enter="bottom")
    canvas.arrow(difference, wide)
    canvas.note(3.45, 1.38, "motion")
    total = canvas.sign(7.4, 0.75, "+")
    canvas.arrow(spatial, total)
    canvas.arrow(wide, total, enter="bottom")
    after = canvas.column(8.5, 0.75, 2, title="y[t]")
    canvas.arrow(total, after)
    return canvas


def motion_squeeze() -> Canvas:
    """MotionSqueeze: displacements become features."""
    canvas = Canvas(2.75)
    now, following = compared(canvas)
    upper = canvas.box(1.75, UPPER, "1 x 1, BN\nReLU", weights=True)
    lower = canvas.box(1.75, LOWER, "1 x 1, BN\nReLU", weights=True)
    alike = canvas.box(3.35, UPPER, "products\nin a window")
    maps = canvas.box(4.8, UPPER, "softmax\nmean, max")
    canvas.arrow(now, upper)
    canvas.arrow(following, lower)
    canvas.arrow(upper, alike)
    canvas.arrow(lower, alike, enter="bottom")
    canvas.arrow(alike, maps)
    refine = canvas.box(6.35, UPPER, "4 separable\nconvolutions", weights=True)
    canvas.arrow(maps, refine)
    finished(canvas, refine, "x + m", frame=now)
    canvas.note(1.75, (UPPER + LOWER) / 2, "same layer, C to 64")
    canvas.note(4.3, UPPER + 0.42, "225 products each")
    canvas.note(6.35, UPPER + 0.42, "m, 3 maps to C")
    return canvas
