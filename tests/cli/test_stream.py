"""`kinema stream` on files, pipes and RTSP, through the real command and its signals."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kinema import Recognizer
from kinema.live.stream import LiveRecognition
from kinema.video.decode import VideoFile

from ..causal import save_causal
from ..rtsp_server import RtspServer


@pytest.fixture(scope="module")
def causal(tmp_path_factory) -> Path:
    return save_causal(tmp_path_factory.mktemp("causal") / "net")


@pytest.fixture
def started(causal) -> Callable[..., subprocess.Popen]:
    """Starts `kinema stream CKPT WORDS...` as a process."""
    processes = []

    def start(*words: object) -> subprocess.Popen:
        command = [sys.executable, "-m", "kinema.cli.main", "stream", str(causal)]
        process = subprocess.Popen(
            [*command, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def lines(text: str | bytes) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_command_says_what_python_says(kinema, causal, color_set):
    video = color_set / "green" / "1.mp4"
    answer = kinema("stream", causal, video, "--top", 2)
    rows = lines(answer.out)
    results = list(LiveRecognition(Recognizer.load(causal), str(video)))
    assert answer.code == 0
    assert [row["frame"] for row in rows] == list(range(12))
    for row, result in zip(rows, results, strict=True):
        assert set(row) - {"event"} == {"frame", "time_s", "top", "latency_ms"}
        assert ("event" in row) == result.changed
        assert [e["name"] for e in row["top"]] == [c.name for c in result.top[:2]]
        probs = [c.prob for c in result.top[:2]]
        assert [e["prob"] for e in row["top"]] == pytest.approx(probs, abs=1e-4)
    assert "12 frames in" in answer.err
    assert "0 dropped" in answer.err
    assert "0 reconnects" in answer.err


@pytest.mark.slow
def test_options_reach_the_stream(kinema, causal, color_set, tmp_path):
    video, out = color_set / "red" / "0.mp4", tmp_path / "out.mp4"
    answer = kinema(
        *("stream", causal, video, "--every", 2, "--smooth", "exponential:0.2", "--limit", "0.7s"),
        *("--enter", 0, "--leave", 0, "--background", "blue", "--write", out, "--fast", "--json"),
    )
    assert answer.code == 0, answer.err
    assert [row["frame"] for row in lines(answer.out)] == [0, 2, 4, 6, 8]
    with VideoFile(out) as file:
        assert file.info.frames == 5
    with_none = kinema("stream", causal, video, "--smooth", "none", "--limit", 2)
    assert len(lines(with_none.out)) == 2


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("7",), 1, "no camera 7"),
        (("nowhere.mp4",), 1, "nowhere.mp4 does not exist"),
        (("-",), 1, "need their size"),
        (("a.mp4", "--smooth", "mean"), 2, "expected window:8"),
        (("a.mp4", "--smooth", "exponential:1"), 2, "expected window:8"),
        (("a.mp4", "--limit", "5m"), 2, "expected frames such as 300"),
        (("-", "--raw", "64"), 2, "expected a size such as"),
        (("a.mp4", "--background", "geen"), 1, "Did you mean 'green'"),
        (("a.mp4", "--fps", "inf"), 1, "rate_hz must be above 0 and finite"),
        (("a.mp4", "--write", __file__), 2, "already exists"),
    ],
)
def test_wrong_use(kinema, causal, words, code, part):
    answer = kinema("stream", causal, *words)
    assert (answer.code, answer.out) == (code, "")
    assert part in " ".join(answer.err.replace("│", " ").split())


def test_a_network_that_looks_ahead(kinema, checkpoint, color_set):
    answer = kinema("stream", checkpoint, color_set / "red" / "0.mp4")
    assert (answer.code, answer.out) == (1, "")
    assert "kinema import --causal" in answer.err


def test_help_has_an_example(kinema):
    assert "kinema stream runs/x/best" in kinema("stream", "--help").out


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_with_a_summary(started, number, code):
    with RtspServer() as server:
        process = started(server.url)
        first = process.stdout.readline()
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert process.returncode == code, err
    rows = lines(first + out)  # no half line
    assert f"{len(rows)} frames in" in err.decode()
    assert b"Traceback" not in err


@pytest.mark.slow
def test_a_lost_source_that_stays_away_is_an_error_with_a_summary(started):
    with RtspServer() as server:
        process = started(server.url, "--retries", 2, "--back-off", 0.1, "--timeout", 2)
        process.stdout.readline()
        server.cut()
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"could not be reached again, tried 2 times: connection refused" in err
    assert b"frames in" in err


@pytest.mark.slow
def test_raw_frames_on_stdin(started):
    process = started("-", "--raw", "64x48@10", "--every", 1)
    out, err = process.communicate(bytes(5 * 64 * 48 * 3), timeout=60)
    assert process.returncode == 0, err
    assert [row["time_s"] for row in lines(out)] == [0, 0.1, 0.2, 0.3, 0.4]


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(started):
    process = started("-", "--raw", "64x48@10")
    frame = bytes(64 * 48 * 3)
    process.stdin.write(frame)
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    process.stdin.write(3 * frame)
    process.stdin.close()
    err = process.stderr.read()
    assert process.wait(20) == 0, err
    assert b"frames in" in err
    assert b"Broken pipe" not in err
    process.stdin = process.stdout = None
