"""Motions of the synthetic set: seven pairs of classes, each the time reversal of the other.

Only the first motion of each pair is defined here; a video of the second is a video of the first
played backward. By construction both have the same distribution of unordered frames under any
nuisance. The motion belongs to the object in the scene: the camera moves object and background
alike, so directions are relative to the background.

Units: positions in half frame sides (-1 to 1, y down), angles in radians, time in frames.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kinema.errors import UnknownNameError, did_you_mean

Array = NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True)
class Track:
    """Object over time, each (T,): position, size, angle and glow (0 to 1)."""

    x: Array
    y: Array
    size: Array
    angle: Array
    glow: Array


@dataclass(frozen=True)
class MotionRange:
    """Ranges of the random factors, from the difficulty settings."""

    speed: float  # maximum speed relative to the slowest motion, at least 1
    scale: float  # factor around 1 of the object's size and of the extent of the motion


def _progress(frames: int, motion: MotionRange, rng: Rng) -> Array:
    """Progress from 0 to 1: the faster, the shorter, starting at a random time."""
    active = max(4.0, rng.uniform(0.9, 1.0) / motion.speed * frames)
    start = rng.uniform(0, max(0.0, frames - active))
    return np.clip((np.arange(frames) - start) / active, 0, 1)


def _still(frames: int, motion: MotionRange, rng: Rng) -> Track:
    """Object at rest at a random position."""
    ones = np.ones(frames)
    return Track(
        x=ones * rng.uniform(-0.35, 0.35),
        y=ones * rng.uniform(-0.35, 0.35),
        size=ones * rng.uniform(0.34, 0.44) * motion.scale**0.5,
        angle=ones * rng.uniform(0, 2 * np.pi),
        glow=0 * ones,
    )


def _line(track: Track, frames: int, motion: MotionRange, rng: Rng, *, across: bool) -> Track:
    way = rng.uniform(0.8, 1.2) * motion.scale
    offset = way * (_progress(frames, motion, rng) - 0.5)
    return replace(track, x=track.x + offset) if across else replace(track, y=track.y - offset)


def _approach(track: Track, frames: int, motion: MotionRange, rng: Rng) -> Track:
    ratio = rng.uniform(2.0, 2.6) ** motion.scale
    growth = ratio ** (_progress(frames, motion, rng) - 0.5)
    return replace(track, size=track.size * growth)


def _rotate_cw(track: Track, frames: int, motion: MotionRange, rng: Rng) -> Track:
    """Rotation about a point beside the object, as on a turntable."""
    turn = rng.uniform(1.2, 1.6) * np.pi * _progress(frames, motion, rng)
    radius, angle = rng.uniform(0.35, 0.5) * motion.scale, rng.uniform(0, 2 * np.pi) + turn
    x = 0.5 * track.x + radius * np.cos(angle)
    y = 0.5 * track.y + radius * np.sin(angle)
    return replace(track, x=x, y=y, angle=track.angle + turn)


def _flash_then_hop(track: Track, frames: int, motion: MotionRange, rng: Rng) -> Track:
    """Two consecutive events of equal length, each its own reverse."""
    progress = _progress(frames, motion, rng)
    inside = (progress > 0) & (progress < 1)
    glow = np.where(inside & (progress < 0.5), 1.0, 0.0)
    hop = np.where(progress >= 0.5, np.sin(np.pi * (2 * progress - 1)), 0.0)
    y = track.y + 0.2 - 0.6 * motion.scale * np.clip(hop, 0, 1)
    return replace(track, y=y, glow=glow)


def _climb_and_drop(track: Track, frames: int, motion: MotionRange, rng: Rng) -> Track:
    """Periodic: climbs slowly and drops quickly, repeatedly."""
    periods = rng.uniform(1.5, 1.8) * motion.speed**0.5  # eight frames must show each period
    phase = (rng.uniform(0, 1) + periods * np.arange(frames) / frames) % 1
    height = np.where(phase < 0.8, phase / 0.8, (1 - phase) / 0.2)
    return replace(track, y=track.y + 0.8 * motion.scale * (0.5 - height))


def _creep_out_dash_back(track: Track, frames: int, motion: MotionRange, rng: Rng) -> Track:
    """Pretends to leave: creeps away in some direction and dashes back."""
    progress = _progress(frames, motion, rng)
    away = np.where(progress < 0.8, progress / 0.8, (1 - progress) / 0.2)
    direction, way = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.1) * motion.scale
    x = track.x + way * (away - 0.5) * np.cos(direction)  # half before the place: stays in view
    return replace(track, x=x, y=track.y + way * (away - 0.5) * np.sin(direction))


# (class of the motion as defined, class of its reverse, motion of an object at rest)
_PAIRS: tuple[tuple[str, str, Callable[[Track, int, MotionRange, Rng], Track]], ...] = (
    ("move_right", "move_left", partial(_line, across=True)),
    ("move_up", "move_down", partial(_line, across=False)),
    ("approach", "recede", _approach),
    ("rotate_cw", "rotate_ccw", _rotate_cw),
    ("flash_then_hop", "hop_then_flash", _flash_then_hop),
    ("climb_and_drop", "jump_and_sink", _climb_and_drop),
    ("creep_out_dash_back", "dash_out_creep_back", _creep_out_dash_back),
)

REVERSED_PAIRS: tuple[tuple[str, str], ...] = tuple((a, b) for a, b, _ in _PAIRS)
MOTION_CLASSES: tuple[str, ...] = tuple(name for pair in REVERSED_PAIRS for name in pair)


def draw_track(class_name: str, frames: int, motion: MotionRange, rng: Rng) -> tuple[Track, bool]:
    """Draws a random motion of the class's pair, and returns it with True if it is to be reversed.

    Raises:
        UnknownNameError: the class does not exist.
    """
    for forward, backward, draw in _PAIRS:
        if class_name in (forward, backward):
            still = _still(frames, motion, rng)
            return draw(still, frames, motion, rng), class_name == backward
    raise UnknownNameError(
        f"There is no motion class {class_name!r}. {did_you_mean(class_name, MOTION_CLASSES)}"
    )
