"""Renders frames of the synthetic motion set: a textured object over a textured background.

Letters: T frames, S side of the frame in pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinema.synthetic.motion import Rng, Track

Image = NDArray[np.floating]

SHAPES = ("disc", "square", "triangle", "cross", "ring")
REACH = 1.25  # maximum radius of a shape, in units of its half size


@dataclass(frozen=True)
class Look:
    """Static appearance of a scene, drawn once per video."""

    shape: str
    colors: Image  # (2, 3): the two halves of the object
    stripes: float
    background: Image  # (2S, 2S, 3)


def draw_look(side_px: int, rng: Rng) -> Look:
    """Draws a random object and a background that differs from it."""
    background = _texture(2 * side_px, rng)
    colors = rng.uniform(0.2, 0.6, (2, 3)).astype(np.float32)
    first, second, _ = rng.permutation(3)  # halves differ in hue from each other and the glow
    colors[[0, 1], [first, second]] = rng.uniform(0.8, 1, 2)
    colors[[0, 1], [second, first]] = rng.uniform(0, 0.25, 2)
    return Look(
        shape=str(rng.choice(SHAPES)),
        colors=colors,
        stripes=float(rng.uniform(4, 8)),
        background=background,
    )


def draw_camera(frames: int, amount: float, rng: Rng) -> NDArray[np.float64]:
    """Draws camera offsets (T, 2) in half frame sides: a steady pan and a shake.

    Directions are uniform and the shake is stationary, so the camera does not reveal the order of
    time.
    """
    direction = rng.uniform(0, 2 * np.pi)
    way = amount * rng.uniform(0, 0.5) * np.array([np.cos(direction), np.sin(direction)])
    pan = np.linspace(-0.5, 0.5, frames)[:, None] * way
    shake = amount * 0.03 * rng.standard_normal((frames, 2))
    return pan + shake


def render(
    look: Look, track: Track, camera: NDArray[np.float64], side_px: int
) -> NDArray[np.uint8]:
    """Renders frames (T, S, S, 3) of a scene; the camera moves object and background alike."""
    frames = np.empty((len(track.x), side_px, side_px, 3), np.uint8)
    for t, (dx, dy) in enumerate(camera):
        picture = _window(look.background, dx, dy, side_px)
        _paint(picture, look, track, t, camera[t])
        frames[t] = np.clip(255 * picture + 0.5, 0, 255).astype(np.uint8)
    return frames


def _paint(picture: Image, look: Look, track: Track, t: int, camera: NDArray[np.float64]) -> None:
    """Paints the object of time `t` into the picture (S, S, 3) of a camera at (x, y)."""
    side_px = len(picture)
    x, y = track.x[t] - camera[0], track.y[t] - camera[1]
    # Only the bounding box of the object is painted: most of the frame is background.
    size, reach = track.size[t], REACH * track.size[t]
    first, last = (
        np.clip((np.array([x, y]) + sign * reach + 1) * side_px / 2 + sign, 0, side_px).astype(int)
        for sign in (-1, 1)
    )
    axis = (np.arange(side_px, dtype=np.float32) + 0.5) * (2 / side_px) - 1
    across = axis[None, first[0] : last[0]] - np.float32(x)
    down = axis[first[1] : last[1], None] - np.float32(y)
    # Pixel positions in the object's own frame (u, v): moved, turned and scaled back.
    cos, sin = np.float32(np.cos(track.angle[t])), np.float32(np.sin(track.angle[t]))
    u = (cos * across + sin * down) / np.float32(size)
    v = (cos * down - sin * across) / np.float32(size)
    # Signed distances in pixels become coverages, so edges are smooth and move by parts of a
    # pixel: a slow motion would otherwise jump, and jumps could reveal the direction of time.
    unit_px = np.float32(size * side_px / 2)
    cover = np.clip(0.5 - _distance(look.shape, u, v) * unit_px, 0, 1)[..., None]
    half = np.clip(0.5 + u * unit_px, 0, 1)[..., None]
    paint = half * look.colors[0] + (1 - half) * look.colors[1]
    paint *= (0.85 + 0.15 * np.sin(np.float32(look.stripes) * v))[..., None]
    glow = np.float32(track.glow[t])
    paint = paint * (1 - glow) + glow
    part = picture[first[1] : last[1], first[0] : last[0]]
    part += (paint - part) * cover


def _texture(side_px: int, rng: Rng) -> Image:
    """Smooth colored noise, from two coarse grids."""
    base = rng.uniform(0.1, 0.4, 3).astype(np.float32)
    coarse = _enlarge(rng.standard_normal((7, 7, 3)), side_px)
    fine = _enlarge(rng.standard_normal((25, 25, 3)), side_px)
    texture: Image = np.clip(base + 0.06 * coarse + 0.03 * fine, 0.05, 0.95)
    return texture


def _enlarge(grid: NDArray[np.float64], side_px: int) -> Image:
    """Bilinear enlargement of (n, n, 3) to (side, side, 3)."""
    place = np.linspace(0, len(grid) - 1.001, side_px)
    low = place.astype(np.int64)
    share = (place - low).astype(np.float32)
    rows = grid[low] * (1 - share)[:, None, None] + grid[low + 1] * share[:, None, None]
    wide = rows[:, low] * (1 - share)[None, :, None] + rows[:, low + 1] * share[None, :, None]
    return wide.astype(np.float32)


def _window(background: Image, dx: float, dy: float, side_px: int) -> Image:
    """Part of the background that the camera sees, with subpixel shift."""
    spare = len(background) - side_px - 2
    left, top = (np.clip(side_px / 2 * (1 + d), 0, spare) for d in (dx, dy))
    x, y = int(left), int(top)
    fx, fy = np.float32(left - x), np.float32(top - y)
    part = background[y : y + side_px + 1, x : x + side_px + 1]
    rows: Image = part[:-1] * (1 - fy) + part[1:] * fy
    window: Image = rows[:, :-1] * (1 - fx) + rows[:, 1:] * fx
    return window


def _distance(shape: str, u: Image, v: Image) -> Image:
    """Signed distance to the outline, negative inside, in units of the object's half size."""
    if shape == "disc":
        return np.hypot(u, v) - 1
    if shape == "ring":
        return np.abs(np.hypot(u, v) - 0.75) - 0.28
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - 0.85
    if shape == "triangle":
        return np.maximum(np.abs(u) * 0.866 + v * 0.5, -v) - 0.6
    thin = np.float32(0.32)
    arms = np.maximum(np.abs(u) - 1, np.abs(v) - thin)
    cross: Image = np.minimum(arms, np.maximum(np.abs(v) - 1, np.abs(u) - thin))
    return cross
