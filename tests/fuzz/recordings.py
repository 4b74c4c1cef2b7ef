"""Recordings whose times or frame sizes change in the middle, as seeds for damage."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE_HZ = 25
FRAMES = 30
# Clocks of MPEG streams start at 0 again after so many frames.
WRAP = RATE_HZ * 2**33 // 90_000


def make_recordings(folder: Path) -> tuple[Path, ...]:
    """Writes joined, wrapped, stepped and grown recordings; the same bytes every time."""
    folder.mkdir()
    small, large = (64, 48), (640, 480)
    steady, ahead = range(FRAMES), range(500, 500 + FRAMES)
    # The clock is set back and forward, or is wrong for single frames.
    stepped = (*range(300, 310), *range(10), *range(90_000, 90_010))
    outliers = [n + 900_000 * (n in (4, 17)) for n in steady]
    parts = {
        "joined.ts": [(small, ahead), (small, steady)],
        "joined_thrice.ts": [(small, steady)] * 3,
        "joined_sizes.ts": [(large, ahead), (small, steady)],
        "wrapped.ts": [(small, range(WRAP - 50, WRAP - 50 + FRAMES))],
        "stepped.mkv": [(small, stepped)],
        "outliers.mkv": [(small, outliers)],
        "grown.ts": [(small, steady), (large, range(FRAMES, 2 * FRAMES))],
        "grown.h264": [(small, steady), (large, steady)],
    }
    return tuple(_joined(folder / name, recordings) for name, recordings in parts.items())


def _joined(path: Path, parts: Iterable[tuple[tuple[int, int], Sequence[int]]]) -> Path:
    """Recordings copied one after the other."""
    part = path.with_stem("part")
    with path.open("wb") as whole:
        for size, times in parts:
            _record(part, size, times)
            whole.write(part.read_bytes())
    part.unlink()
    return path


def _record(path: Path, size: tuple[int, int], times: Sequence[int]) -> None:
    """Encodes moving pictures; `times` are those of the frames, in frame periods."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE_HZ)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 10, 0
        stream.codec_context.thread_count = 1
        packets = [
            packet for frame in _pictures(size, len(times)) for packet in stream.encode(frame)
        ]
        packets += stream.encode()
        # Muxers want decoding times that rise and are no later than those of the pictures.
        decoded = times if list(times) == sorted(times) else range(-len(times), 0)
        for packet, shown, dts in zip(packets, times, decoded, strict=True):
            ticks = round(1 / RATE_HZ / packet.time_base)
            packet.pts, packet.dts = shown * ticks, dts * ticks
            container.mux(packet)


def _pictures(size: tuple[int, int], count: int) -> Iterable[av.VideoFrame]:
    width, height = size
    for number in range(count):
        picture = np.full((height, width, 3), 8 * number, np.uint8)
        picture[:, : width * number // count] = 255 - 8 * number
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, RATE_HZ)
        yield frame
