"""Live sources: files, pipes, cameras, and addresses that reconnect."""

import functools
import http.server
import logging
import os
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from kinema.errors import OptionError, UnreadableVideoError
from kinema.live.connection import Connection, without_password
from kinema.live.frame_queue import QUEUED_FRAMES, FrameQueue
from kinema.live.live_source import LiveFrame
from kinema.live.sources import RawFormat, RawFrames, open_live
from kinema.video.decode import VideoFile

from ...rtsp_server import RATE_HZ, RtspServer
from ..conftest import number_of, write_video

QUICK = Connection(timeout_s=1.5, back_off_s=0.05, retries=8)


pytestmark = pytest.mark.timeout(60)


def never() -> bool:
    return False


def decoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "kinema-decode"]


@pytest.fixture
def rtsp() -> Iterator[RtspServer]:
    with RtspServer() as server:
        yield server


@pytest.fixture
def web(tmp_path) -> Iterator[str]:
    """The address of a web server of the folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_gives_its_frames_with_their_times(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=20)
    frames = list(open_live(str(path)).frames(never))
    with VideoFile(path) as file:
        assert [frame.time_s for frame in frames] == file.times_s(range(20))
        expected = file.read(range(20)).permute(0, 2, 3, 1).numpy()
    assert [frame.number for frame in frames] == list(range(20))
    assert np.array_equal(np.stack([frame.picture for frame in frames]), expected)


def test_a_file_that_ends_too_early_is_an_error(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=40, size=(128, 96))
    data = bytearray(path.read_bytes())
    first, last = len(data) // 2, data.index(b"moov")
    data[first : last - 8] = bytes(last - 8 - first)
    path.write_bytes(data)
    numbers = []
    with pytest.raises(UnreadableVideoError, match=r"only \d+ of its 40 frames"):
        numbers.extend(frame.number for frame in open_live(str(path)).frames(never))
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 10


def test_raw_frames_come_from_a_pipe():
    reader, writer = os.pipe()
    pictures = np.random.default_rng(0).integers(0, 255, (3, 4, 6, 3), dtype=np.uint8)
    os.write(writer, pictures.tobytes())
    os.close(writer)
    frames = list(RawFrames(RawFormat(6, 4, 10.0), descriptor=reader).frames(never))
    assert np.array_equal(np.stack([frame.picture for frame in frames]), pictures)
    assert [frame.time_s for frame in frames] == [0, 0.1, 0.2]


def test_half_a_raw_frame_is_an_error():
    reader, writer = os.pipe()
    os.write(writer, bytes(100))
    os.close(writer)
    with pytest.raises(UnreadableVideoError, match="middle of frame 1: 28 of its 72 bytes"):
        list(RawFrames(RawFormat(6, 4), descriptor=reader).frames(never))


def test_a_silent_pipe_can_be_stopped():
    reader, _writer = os.pipe()
    queue = FrameQueue(
        RawFrames(RawFormat(6, 4), descriptor=reader), drop="never", select=lambda _: True
    )
    threading.Timer(0.2, queue.stop).start()
    assert list(queue) == []
    assert decoding_threads() == []


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("7", UnreadableVideoError, "no camera 7: /dev/video7 does not exist"),
        ("rtsp://127.0.0.1:1/x", UnreadableVideoError, "cannot be opened: connection refused"),
        ("http://127.0.0.1:1/x.mp4", UnreadableVideoError, "cannot be opened: connection refused"),
        ("rtps://camera", OptionError, "unknown scheme 'rtps'. Did you mean 'rtsps'"),
        ("nowhere.mp4", UnreadableVideoError, "nowhere.mp4 does not exist"),
        ("-", OptionError, "need their size"),
    ],
)
def test_what_cannot_be_opened_says_why(source, kind, message):
    with pytest.raises(kind, match=message):
        open_live(source, connection=QUICK)


def test_passwords_stay_out_of_messages():
    assert without_password("rtsp://me:secret@cam:554/1?x=2") == "rtsp://cam:554/1?x=2"
    assert without_password("rtsp://cam/1") == "rtsp://cam/1"


@pytest.mark.slow
def test_a_video_behind_an_address_is_that_in_the_file(web, tmp_path):
    path = write_video(tmp_path / "a.mkv", frames=20)
    source = open_live(f"{web}/a.mkv", connection=QUICK)
    frames = list(source.frames(never))
    source.close()
    assert not source.is_live
    assert [number_of(frame.picture) for frame in frames] == list(range(20))
    expected = list(open_live(str(path)).frames(never))
    assert [f.time_s for f in frames] == pytest.approx([f.time_s for f in expected])
    assert all(np.array_equal(a.picture, b.picture) for a, b in zip(frames, expected, strict=True))


@pytest.mark.slow
def test_an_address_that_does_not_exist(web):
    with pytest.raises(UnreadableVideoError, match="cannot be opened: server returned 404"):
        open_live(f"{web}/b.mkv", connection=QUICK)


@pytest.mark.slow
def test_rtsp_goes_on_after_a_cut(rtsp, caplog):
    source, times = open_live(rtsp.url, connection=QUICK), []
    assert source.is_live
    for frame in source.frames(never):
        times.append((frame.number, frame.connection, frame.time_s))
        if frame.number == 10:
            rtsp.cut()
            threading.Timer(0.4, rtsp.restore).start()
        if frame.connection and len(times) > 20:
            break
    source.close()
    assert [number for number, _, _ in times] == list(range(len(times)))
    assert np.all(np.diff([time_s for _, _, time_s in times]) > 0)
    assert times[9][2] == pytest.approx(9 / RATE_HZ, abs=0.01)
    before, after = ([t for _, connection, t in times if connection == c] for c in (0, 1))
    assert after[0] - before[-1] > 0.3  # time has gone on
    assert source.reconnects == 1
    messages = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert "was lost" in messages[0]
    assert "Next attempt in 0.1 s (2 of 8)" in messages[1]  # the wait doubles


@pytest.mark.slow
def test_a_silent_rtsp_source_is_lost_after_the_timeout(rtsp):
    source = open_live(rtsp.url, connection=Connection(timeout_s=1, retries=1, back_off_s=0.1))
    frames = source.frames(never)
    next(frames)
    rtsp.silent, began = True, time.monotonic()
    with pytest.raises(UnreadableVideoError, match="could not be reached again, tried 1 times"):
        list(frames)
    assert time.monotonic() - began < 8
    source.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ts", "mkv"])  # without and with a known duration
def test_http_goes_on_where_it_was_cut(web, tmp_path, monkeypatch, kind):
    path = write_video(tmp_path / f"a.{kind}", frames=60)
    half = [path.stat().st_size // 2]

    def cut_once(_, file, out) -> None:
        out.write(file.read(half.pop() if half else -1))

    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "copyfile", cut_once)
    source = open_live(f"{web}/a.{kind}", connection=QUICK)
    frames = list(source.frames(never))
    source.close()
    assert [frame.number for frame in frames] == list(range(60))
    assert [number_of(frame.picture) for frame in frames] == list(range(60))
    assert source.reconnects == 1


def joined_ts(path: Path, starts: tuple[int, ...]) -> Path:
    """Recordings of 30 frames in one file; `starts` are the first frames' times in frames."""
    parts = [
        write_video(path.with_name(f"{number}.ts"), pts=range(start, start + 30))
        for number, start in enumerate(starts)
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_a_stream_that_appears_in_a_connection_changes_nothing(web, tmp_path):
    first = write_video(tmp_path / "first.ts")
    second = write_video(tmp_path / "second.ts", container_options={"mpegts_start_pid": "512"})
    (tmp_path / "a.ts").write_bytes(first.read_bytes() + second.read_bytes())
    source = open_live(f"{web}/a.ts", connection=QUICK)
    numbers = [number_of(frame.picture) for frame in source.frames(never)]
    source.close()
    assert numbers == list(range(30))


@pytest.mark.slow
@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.parametrize("starts", [(0, 0), (500, 0), (2500, 0), (0, 0, 0)])
def test_times_that_start_again_within_a_connection(
    web, tmp_path, monkeypatch, caplog, is_live, starts
):
    joined_ts(tmp_path / "a.ts", starts)
    if is_live:  # an answer without a length
        send_header = http.server.SimpleHTTPRequestHandler.send_header

        def without_length(self, name, value) -> None:
            if name != "Content-Length":
                send_header(self, name, value)

        monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "send_header", without_length)
    source = open_live(f"{web}/a.ts", connection=Connection(timeout_s=2, retries=0))
    assert source.is_live is is_live
    # A live source that ends was lost, with the frames that the decoder held back.
    total = 30 * len(starts) - 5 * is_live
    frames = list(islice(source.frames(never), total))
    source.close()
    assert [number_of(frame.picture) for frame in frames] == [n % 30 for n in range(total)]
    assert [f.time_s for f in frames] == pytest.approx([n / 25 for n in range(total)], abs=1e-6)
    assert [f.time_steps for f in frames] == [n // 30 for n in range(total)]
    assert frames[-1].time_outliers == 0
    messages = [r.getMessage() for r in caplog.records if "clock has stepped" in r.getMessage()]
    assert len(messages) == 1
    assert "a.ts: the clock has stepped; times go on at the frame period" in messages[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clock_s", "steps", "outliers"),
    [
        (lambda frame: frame / RATE_HZ + 5000 * (frame < 50), 1, 0),  # set back by NTP
        (lambda frame: frame / RATE_HZ + 5000 * (frame >= 50), 1, 0),  # set forward
        (lambda frame: frame / RATE_HZ + 5000 * (frame == 50), 0, 1),
        (lambda frame: frame / RATE_HZ + 5000 * (frame != 50), 0, 1),
    ],
)
def test_a_camera_whose_clock_is_set(rtsp, caplog, clock_s, steps, outliers):
    rtsp.clock_s = clock_s
    source = open_live(rtsp.url, connection=QUICK)
    frames = list(islice(source.frames(never), 60))  # the first second may be skipped
    source.close()
    times = [frame.time_s for frame in frames]
    assert times == pytest.approx([n / RATE_HZ for n in range(60)], abs=0.01)
    assert np.all(np.diff(times) > 0)
    assert (frames[-1].time_steps, frames[-1].time_outliers) == (steps, outliers)
    assert sum("clock has stepped" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.data
def test_a_joined_recording_as_a_file(data_dir):
    path = data_dir.parent / "cases" / "ts_timestamp_reset" / "joined.ts"
    frames = list(open_live(str(path)).frames(never))
    assert [f.time_s for f in frames] == pytest.approx([n / 12 for n in range(72)])
    assert {(f.time_steps, f.time_outliers) for f in frames} == {(1, 0)}


class Numbers:
    """Blank frames, all at once or with a wait."""

    name, is_live, reconnects = "numbers", False, 0

    def __init__(self, count: int, wait_s: float = 0.0) -> None:
        self.count, self.wait_s, self.closed = count, wait_s, False

    def frames(self, stopped):
        for number in range(self.count):
            time.sleep(self.wait_s)
            yield LiveFrame(number, number / 10, np.zeros((2, 2, 3), np.uint8))

    def close(self) -> None:
        self.closed = True


def slowly(queue: FrameQueue, wait_s: float) -> list[int]:
    taken = []
    for frame, _ in queue:
        time.sleep(wait_s)
        taken.append(frame.number)
    return taken


@pytest.mark.parametrize(
    "drop", ["oldest", "newest", pytest.param("never", marks=pytest.mark.slow)]
)
def test_what_is_dropped_when_the_reader_is_slow(drop):
    source = Numbers(40, wait_s=0.005)
    queue = FrameQueue(source, drop=drop, select=lambda _: True)
    taken = slowly(queue, 0.03)
    assert taken == sorted(taken)
    assert len(taken) + queue.dropped == 40
    assert source.closed
    assert decoding_threads() == []
    if drop == "never":
        assert taken == list(range(40))
        return
    assert queue.dropped > 15
    if drop == "oldest":  # the last frame always comes
        assert taken[-1] == 39
    else:  # a run from the start
        assert taken[: QUEUED_FRAMES + 1] == list(range(QUEUED_FRAMES + 1))


def test_frames_that_nobody_wants_are_not_dropped_ones():
    queue = FrameQueue(Numbers(20), drop="never", select=lambda frame: frame.number % 5 == 0)
    assert slowly(queue, 0) == [0, 5, 10, 15]
    assert queue.dropped == 0


def test_frames_are_held_back_until_their_time():
    began = time.monotonic()
    queue = FrameQueue(Numbers(4), drop="oldest", select=lambda _: True, paced=True)
    assert slowly(queue, 0) == [0, 1, 2, 3]
    assert 0.3 <= time.monotonic() - began < 0.6


def test_an_error_comes_after_the_frames_before_it():
    class Failing(Numbers):
        def frames(self, stopped):
            yield from super().frames(stopped)
            raise UnreadableVideoError("lost")

    queue, taken = FrameQueue(Failing(3), drop="never", select=lambda _: True), []
    with pytest.raises(UnreadableVideoError, match="lost"):
        taken.extend(frame.number for frame, _ in queue)
    queue.close()
    assert decoding_threads() == []


def test_a_queue_that_was_never_read_gives_its_source_back():
    source = Numbers(3)
    FrameQueue(source, drop="never", select=lambda _: True).close()
    assert source.closed
