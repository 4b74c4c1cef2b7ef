"""Times of files: one rising line, whatever the recording did, up to the end of the last frame."""

import logging
from pathlib import Path

import av
import numpy as np
import pytest

from kinema.video.decode import VideoFile
from kinema.video.index_cache import IndexCache

from ..conftest import number_of, write_video
from .reading import pictures

RATE_HZ = 25
# Clocks of MPEG streams start at 0 again after so many frames.
WRAP = RATE_HZ * 2**33 // 90_000


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def part(path: Path, start: int, **options) -> Path:
    """30 frames in MPEG-TS; `start` is the first one's time in frames."""
    return write_video(path, pts=range(start, start + 30), **options)


def recoded_times(path: Path, out: Path, wrong: dict[int, int]) -> Path:
    """Copies a video; `wrong` are milliseconds by which packets come late."""
    with av.open(str(path)) as source, av.open(str(out), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
            packet.pts += round(wrong.get(number, 0) / 1000 / packet.time_base)
            packet.stream = stream
            file.mux(packet)
    return out


@pytest.mark.parametrize(
    ("starts", "sizes"),
    [
        ((0, 0), [(64, 48)] * 2),
        ((500, 0), [(64, 48)] * 2),
        ((2500, 0), [(64, 48)] * 2),  # FFmpeg takes 100 s for a wrap of the clock
        ((250_000, 0), [(64, 48)] * 2),
        ((0, 0), [(64, 48), (96, 64)]),
        ((0, 0), [(96, 64), (64, 48)]),
        ((50, 0, 0, 0), [(64, 48)] * 4),
    ],
)
def test_joined_recordings_are_one(tmp_path, caplog, starts, sizes):
    parts = [
        part(tmp_path / f"{number}.ts", start, size=size)
        for number, (start, size) in enumerate(zip(starts, sizes, strict=True))
    ]
    path = joined(tmp_path / "joined.ts", *parts)
    cache, frames = IndexCache(tmp_path / "index"), 30 * len(parts)
    expected = np.arange(frames) / RATE_HZ
    for _ in range(2):  # the second one from the cache
        with VideoFile(path, index_cache=cache) as source:
            assert source.info.frames == frames
            assert source.times_s(range(frames)) == pytest.approx(expected.tolist())
            assert source.info.duration_s == pytest.approx(expected[-1] + 1 / RATE_HZ)
            assert source.lead_s == 0
            assert source.info.time_steps == sum(np.diff(starts) <= 0)
            assert source.info.time_outliers == 0
            shown = [number_of(picture) for picture in source.in_order()]
            assert shown == list(range(30)) * len(parts)
            chosen = pictures(source, [3, 29, 30, frames - 1])
            assert [number_of(picture) for picture in chosen] == [3, 29, 0, 29]
    messages = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(messages) == 1
    assert f"joined.ts: its times start again at {source.info.time_steps} places" in messages[0]


def test_a_clock_that_wraps_goes_on(tmp_path, caplog):
    path = part(tmp_path / "wrap.ts", WRAP - 50)  # the muxer adds 1.4 s
    with VideoFile(path) as source:
        assert source.times_s(range(30)) == pytest.approx([n / RATE_HZ for n in range(30)])
        assert source.info.duration_s == pytest.approx(30 / RATE_HZ)
        assert (source.info.time_steps, source.info.time_outliers) == (0, 0)
    assert not caplog.records


@pytest.mark.parametrize("late_ms", [700, 3_600_000])
@pytest.mark.parametrize("number", [3, 20])
def test_one_wrong_time_moves_no_frame(tmp_path, late_ms, number):
    good = write_video(tmp_path / "good.mkv", codec="mpeg4", bframes=0)
    path = recoded_times(good, tmp_path / "wrong.mkv", {number: late_ms})
    with VideoFile(path) as source:
        assert [number_of(picture) for picture in source.in_order()] == list(range(30))
        assert source.times_s(range(30)) == pytest.approx([n / RATE_HZ for n in range(30)])
        assert source.info.duration_s == pytest.approx(30 / RATE_HZ)
        chosen = pictures(source, [number - 1, number, number + 1])
        assert [number_of(picture) for picture in chosen] == [number - 1, number, number + 1]


def test_wrong_times_are_counted(tmp_path):
    good = write_video(tmp_path / "good.mkv", codec="mpeg4", bframes=0)
    path = recoded_times(good, tmp_path / "wrong.mkv", {5: 10**7, 20: 10**7})
    with VideoFile(path) as source:
        assert (source.info.time_steps, source.info.time_outliers) == (0, 2)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.webm", "libvpx"),
        ("a.webm", "libvpx-vp9"),
        ("a.mkv", "libx264"),
        ("a.mp4", "libx264"),
        ("a.mp4", "mpeg4"),
        ("a.ts", "libx264"),
    ],
)
def test_the_duration_ends_with_the_last_frame(make_video, name, codec):
    # Two seconds at full rate, then a picture a second.
    pts = [*range(50), *range(50, 300, 25)]
    bframes = 2 if codec == "libx264" else 0
    with VideoFile(make_video(name, frames=60, codec=codec, bframes=bframes, pts=pts)) as source:
        last_s = source.times_s([59])[0]
        assert last_s == pytest.approx(275 / RATE_HZ, abs=2e-3)
        assert source.info.duration_s == pytest.approx(last_s + 1 / RATE_HZ, abs=2e-3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_the_duration_at_a_constant_rate(make_video, name):
    codec = "mpeg4" if name == "a.avi" else "libx264"
    with VideoFile(make_video(name, codec=codec, bframes=0)) as source:
        assert source.info.duration_s == pytest.approx(30 / RATE_HZ, abs=1e-9)


def test_the_duration_of_a_picture_that_stays(make_video):
    path = make_video(
        "a.gif", codec="gif", pix_fmt="gray", bframes=0, frames=5, pts=[0, 1, 2, 3, 50]
    )
    with VideoFile(path) as source, av.open(str(path)) as container:
        assert source.info.duration_s == pytest.approx(container.duration / av.time_base, abs=1e-6)


@pytest.mark.data
def test_the_joined_recording(data_dir):
    with VideoFile(data_dir.parent / "cases" / "ts_timestamp_reset" / "joined.ts") as source:
        assert (source.info.frames, source.info.duration_s) == (72, 6.0)
        assert source.times_s(range(72)) == pytest.approx([n / 12 for n in range(72)])
        assert source.info.time_steps == 1


@pytest.mark.data
@pytest.mark.slow
def test_times_of_real_clips_do_not_change(data_dir):
    for path in sorted((data_dir / "clips").iterdir()):
        if path.suffix in (".tsv", ".json") or path.name.startswith("bad_"):
            continue
        with VideoFile(path) as source:
            total = source.info.frames
            found = source.times_s(range(total))
            stream = source._container.stream.index
        with av.open(str(path)) as container:
            frames = container.decode(container.streams[stream])
            times = [float(frame.pts * frame.time_base) for frame in frames]
        expected = [time_s - min(times) for time_s in sorted(times)]
        assert found == pytest.approx(expected), path.name
