"""Small real video files, written with the real encoder."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

MakeVideo = Callable[..., Path]


def painted(number: int, size: tuple[int, int]) -> np.ndarray:
    """A frame that shows its number as eight dark or bright stripes."""
    width, height = size
    frame = np.full((height, width, 3), 60, np.uint8)
    for bit in range(8):
        left, right = width * bit // 8, width * (bit + 1) // 8
        frame[:, left:right] = 200 if number >> bit & 1 else 40
    return frame


def number_of(picture_HWC: np.ndarray) -> int:
    """Reads the number of a painted frame."""
    width = picture_HWC.shape[1]
    middles = [width * (2 * bit + 1) // 16 for bit in range(8)]
    return sum((picture_HWC[:, x].mean() > 120) << bit for bit, x in enumerate(middles))


def write_video(
    path: Path,
    *,
    frames: int = 30,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    gop: int = 12,
    bframes: int = 2,
    pix_fmt: str = "yuv420p",
    pts: Sequence[int] | None = None,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    title: str = "",
) -> Path:
    with av.open(str(path), "w", options=container_options or {}) as container:
        if title:
            container.metadata["title"] = title
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = size[0], size[1], pix_fmt
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = bframes
        stream.codec_context.time_base = Fraction(1, 25)
        if codec == "libx264":
            stream.options = {"crf": "16", "preset": "ultrafast", "bf": str(bframes)}
        stream.options = {**stream.options, **(codec_options or {})}
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(painted(number, size), format="rgb24")
            frame.pts = pts[number] if pts else number
            frame.time_base = Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for number in range(8):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            frame.rate, frame.pts = 16000, 1024 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def make_video(tmp_path) -> MakeVideo:
    def make(name: str = "video.mp4", **options) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_video(path, **options)

    return make


@pytest.fixture
def sound_file(tmp_path) -> Path:
    return write_sound(tmp_path / "sound.mp4")


@pytest.fixture
def read_number() -> Callable[[np.ndarray], int]:
    return number_of


@pytest.fixture(scope="session")
def few_videos(tmp_path_factory) -> Path:
    """Six videos of 20 to 25 frames in two class folders."""
    root = tmp_path_factory.mktemp("few")
    for i in range(6):
        folder = root / ("left" if i % 2 else "right")
        folder.mkdir(exist_ok=True)
        write_video(folder / f"{i}.mp4", frames=20 + i, gop=1, bframes=0, size=(48, 40))
    return root
