"""Synthetic motion set: real video files whose classes differ only in motion.

Fourteen classes in seven pairs of time reversals (see `motion.py`), with random objects,
backgrounds, sizes, speeds, start times and camera motion. A network that does not see the order
of frames can at best identify the pair and must guess within it. Every frame is intra-coded with
a constant quantizer, so a reversed video holds exactly the pictures of the original: neither
motion compensation nor rate control reveals the direction of time.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError, OptionError, check_range
from kinema.synthetic.motion import MOTION_CLASSES, MotionRange, draw_track
from kinema.synthetic.scene import draw_camera, draw_look, render
from kinema.system.encoders import installed_encoder
from kinema.system.files import is_unused, naming_write_errors, write_whole
from kinema.system.pool import map_in_processes

SETTINGS_FILE = "settings.json"
RENDERER = 2  # incremented whenever the same settings give other pixels
SPLITS = ("train", "val")
# Encoders in order of preference; the options make every frame a keyframe with a fixed quantizer.
ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "veryfast", "qp": "18", "g": "1", "bf": "0"},
    "mpeg4": {"qmin": "2", "qmax": "2", "g": "1", "bf": "0"},  # part of every FFmpeg build
}


@dataclass(frozen=True)
class MotionSettings:
    """Settings of a motion set.

    Attributes:
        train_per_class: Videos per class for training.
        val_per_class: Videos per class for validation.
        size_px: Side of the square frames.
        min_frames: Length of the shortest video in frames.
        max_frames: Length of the longest video in frames.
        rate_hz: Frames per second.
        camera: Amount of camera pan and shake, from 0 (none) to 1 (strong).
        speed_range: Ratio of the fastest to the slowest motion, at least 1.
        scale_range: Ratio of the largest to the smallest motion, at least 1.
        seed: Random seed; every video has its own seed derived from it.

    Raises:
        OptionError: a setting is outside its range.
    """

    train_per_class: int = 40
    val_per_class: int = 12
    size_px: int = 96
    min_frames: int = 24
    max_frames: int = 40
    rate_hz: int = 12
    camera: float = 0.15
    speed_range: float = 1.5
    scale_range: float = 1.3
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(
            at_least=1,
            train_per_class=self.train_per_class,
            val_per_class=self.val_per_class,
            rate_hz=self.rate_hz,
        )
        check_range(at_least=0, seed=self.seed)
        check_range(at_least=0, at_most=1, camera=self.camera)
        check_range(at_least=1, at_most=4, speed_range=self.speed_range)
        check_range(at_least=1, at_most=2, scale_range=self.scale_range)
        if self.size_px < 32 or self.size_px % 2:
            raise OptionError(f"size_px must be even and at least 32, got {self.size_px}.")
        if not 8 <= self.min_frames <= self.max_frames:
            raise OptionError(
                f"Frames must be at least 8 and ascending, got {self.min_frames} to "
                f"{self.max_frames}."
            )


@dataclass(frozen=True)
class _Job:
    """A video to write."""

    split: str
    class_name: str
    seed: tuple[int, ...]
    path: str


def render_video(
    class_name: str, seed: tuple[int, ...], settings: MotionSettings
) -> NDArray[np.uint8]:
    """Renders the frames of a video before coding: (T, S, S, 3), RGB.

    For one seed the two classes of a pair give the same frames in opposite order.

    Raises:
        UnknownNameError: the class does not exist.

    Example:
        >>> settings = MotionSettings(size_px=32)
        >>> there = render_video("move_right", (1,), settings)
        >>> back = render_video("move_left", (1,), settings)
        >>> bool((there[::-1] == back).all())
        True
    """
    rng = np.random.default_rng(seed)
    frames = int(rng.integers(settings.min_frames, settings.max_frames + 1))
    motion = MotionRange(
        speed=float(settings.speed_range ** rng.uniform(0, 1)),
        scale=float(settings.scale_range ** rng.uniform(-0.5, 0.5)),
    )
    track, backwards = draw_track(class_name, frames, motion, rng)
    camera = draw_camera(frames, settings.camera, rng)
    video = render(draw_look(settings.size_px, rng), track, camera, settings.size_px)
    return video[::-1] if backwards else video


def render_motion_set(
    out: str | Path,
    *,
    settings: MotionSettings | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes the set: videos/<class>/*.mp4, train.csv, val.csv, classes.txt, settings.json.

    A complete set with the same settings is kept; an interrupted one is completed. Pixels do not
    depend on the number of workers.

    Args:
        out: The folder.
        settings: Settings of the set.
        workers: Processes; default: one per core; 0 renders in this process. Processes are
            spawned, so a script that calls this needs the `if __name__ == "__main__"` guard.
        progress: Called with (videos done, videos in all).

    Returns:
        The folder.

    Raises:
        KinemaError: the folder holds other files.
    """
    check_range(at_least=0, workers=workers)
    settings = settings or MotionSettings()
    root = Path(out)
    jobs = list(_jobs(settings))
    if _is_complete(root, settings) and all((root / "videos" / job.path).exists() for job in jobs):
        return root
    _write_settings(root, settings, complete=False)
    with naming_write_errors(root):
        for class_name in MOTION_CLASSES:
            (root / "videos" / class_name).mkdir(parents=True, exist_ok=True)
    for done, _ in enumerate(
        map_in_processes(_write_video, jobs, root, settings, workers=workers, chunk=8), start=1
    ):
        if progress is not None:
            progress(done, len(jobs))
    for split in SPLITS:
        _write_rows(root / f"{split}.csv", [job for job in jobs if job.split == split])
    write_whole(root / "classes.txt", "\n".join(MOTION_CLASSES) + "\n")
    _write_settings(root, settings, complete=True)
    return root


def _jobs(settings: MotionSettings) -> Iterator[_Job]:
    counts = (settings.train_per_class, settings.val_per_class)
    for number, (split, count) in enumerate(zip(SPLITS, counts, strict=True)):
        for label, class_name in enumerate(MOTION_CLASSES):
            for i in range(count):
                path = f"{class_name}/{split}_{i:04d}.mp4"
                yield _Job(split, class_name, (settings.seed, number, label, i), path)


def _is_complete(root: Path, settings: MotionSettings) -> bool:
    """Checks whether the folder holds this set completely; creates a new folder.

    Raises:
        KinemaError: the folder holds a set with other settings, or other files.
    """
    file = root / SETTINGS_FILE
    if not file.exists():
        if not is_unused(root, first=file):
            raise KinemaError(
                f"{root} must be a new or empty folder or hold a motion set, and is neither. "
                "Choose another folder."
            )
        with naming_write_errors(root):
            root.mkdir(parents=True, exist_ok=True)
        return False
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
    except ValueError as error:
        raise KinemaError(f"{file} is not a settings file of a motion set: {error}.") from error
    complete = bool(found.pop("complete", False))
    wanted = _wanted(settings)
    if found != wanted:
        keys = sorted(key for key in found | wanted if found.get(key) != wanted.get(key))
        raise KinemaError(
            f"{root} holds a motion set with other settings ({', '.join(keys)}). "
            "Choose another folder."
        )
    return complete


def _wanted(settings: MotionSettings) -> dict[str, Any]:
    return {**asdict(settings), "renderer": RENDERER}


def _write_settings(root: Path, settings: MotionSettings, *, complete: bool) -> None:
    document = {**_wanted(settings), "complete": complete}
    write_whole(root / SETTINGS_FILE, json.dumps(document, indent=2) + "\n")


def _write_video(job: _Job, root: Path, settings: MotionSettings) -> None:
    target = root / "videos" / job.path
    if target.exists():
        return
    partial = target.with_suffix(".part")
    frames = render_video(job.class_name, job.seed, settings)
    with naming_write_errors(target):
        _encode(partial, frames, settings.rate_hz, encoder=installed_encoder(ENCODERS))
        os.replace(partial, target)


def _encode(path: Path, frames: NDArray[np.uint8], rate_hz: int, *, encoder: str) -> None:
    """Encodes an MP4 file with intra-coded frames."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(encoder, rate=rate_hz, options=ENCODERS[encoder])
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the workers keep the cores busy
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write_rows(path: Path, jobs: list[_Job]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "seed"])
    for job in jobs:
        writer.writerow([job.path, job.class_name, "-".join(map(str, job.seed))])
    write_whole(path, text.getvalue())
