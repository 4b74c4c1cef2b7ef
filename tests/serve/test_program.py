"""`kinema serve` as a process: starting, stopping in order, keys, and what it leaves behind."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.sync.client import connect

from .running import Program, children, repeat_video, wait_until, write_video

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> Path:
    """25 s of 320 x 240 pixels; decoding all of it takes about a second."""
    return write_video(
        tmp_path_factory.mktemp("long") / "long.mp4", frames=600, size=(320, 240), rate=24
    )


def predicted(program: Program, path: Path, **fields):
    with path.open("rb") as file, program.http as http:
        return http.post("/v1/predict", files={"file": file}, data=fields)


def ended(program: Program) -> tuple[str, str]:
    out, err = program.process.communicate(timeout=60)
    assert program.process.returncode == 0, err
    return out, err


def in_flight(program: Program) -> float:
    with program.http as http:
        lines = http.get("/metrics").text.splitlines()
    return next(float(x.split()[1]) for x in lines if x.startswith("kinema_requests_in_flight "))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_was_accepted(program, long, tmp_path, number):
    started = program("--workers", 1)
    below = children(started.process.pid)
    _, decoder = below  # the one that forks, and its first child
    with ThreadPoolExecutor(4) as pool, started.http as http:
        with long.open("rb") as file:
            job = http.post("/v1/timeline", files={"file": file}).json()["job"]
        os.kill(decoder, signal.SIGSTOP)
        answers = [pool.submit(predicted, started, long, clips=20) for _ in range(4)]
        wait_until(lambda: in_flight(started) == 4)
        os.kill(started.process.pid, number)
        wait_until(lambda: http.get("/readyz").json() == {"status": "stopping"})
        assert http.get("/readyz").status_code == 503
        refused = predicted(started, long)
        assert (refused.status_code, refused.json()["error"]) == (503, "stopping")
        assert "retry-after" in refused.headers
        os.kill(decoder, signal.SIGCONT)
        assert [answer.result().status_code for answer in answers] == [200] * 4
        wait_until(lambda: http.get(f"/v1/timeline/{job}").json()["state"] == "done")
        assert http.get(f"/v1/timeline/{job}").json()["result"]["windows"]
    began = time.monotonic()
    _, err = ended(started)
    assert time.monotonic() - began < 10
    assert "Traceback" not in err
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))
    assert not list(tmp_path.glob("kinema-serve-*"))


def test_a_stream_is_told_that_the_server_stops(program):
    started = program()
    with connect(started.url.replace("http", "ws") + "/v1/stream") as socket:
        socket.send("{}")
        assert json.loads(socket.recv(timeout=20))["type"] == "ready"
        started.process.send_signal(signal.SIGTERM)
        with pytest.raises(Exception, match="the server stops"):
            socket.recv(timeout=20)
    ended(started)


def test_a_second_signal_does_not_wait(program, long):
    started = program()
    with started.http as http, long.open("rb") as file:
        http.post("/v1/timeline", files={"file": file}, data={"window": 0.2, "stride": 0.02})
        started.process.send_signal(signal.SIGTERM)
        wait_until(lambda: http.get("/readyz").status_code == 503)
    started.process.send_signal(signal.SIGTERM)
    ended(started)


def test_a_killed_server_leaves_no_process(program):
    started = program()
    below = children(started.process.pid)
    started.process.kill()
    started.process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))


def test_a_full_queue_and_a_decoder_that_hangs(program, long, color_set):
    started = program("--workers", 1, "--max-waiting", 1, "--worker-seconds", 4)
    video = color_set / "red" / "0.mp4"
    assert predicted(started, video).status_code == 200
    (parent,) = [pid for pid in children(started.process.pid) if children(pid)]
    (decoder,) = children(parent)
    os.kill(decoder, signal.SIGSTOP)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(predicted, started, video) for _ in range(2)]
        wait_until(lambda: in_flight(started) == 2)
        time.sleep(0.3)
        full = predicted(started, video)
        assert (full.status_code, full.json()["error"]) == (503, "queue_full")
        assert int(full.headers["retry-after"]) >= 1
        answers = [answer.result() for answer in waiting]
    assert sorted(answer.status_code for answer in answers) == [200, 422]
    failed = next(answer.json() for answer in answers if answer.status_code == 422)
    assert (failed["error"], failed["file"]) == ("decoding_takes_long", "0.mp4")
    assert predicted(started, video).status_code == 200


def test_a_bomb_and_a_slow_request(program, color_set, long, tmp_path):
    started = program("--worker-mb", 64, "--max-pixels", 1 << 30, "--timeout", 3)
    bomb = write_video(tmp_path / "bomb.mp4", frames=2, size=(4096, 4096))
    answer = predicted(started, bomb)
    assert (answer.status_code, answer.json()["error"]) == (422, "decoding_needs_memory")
    assert answer.json()["message"].startswith("bomb.mp4 cannot be read: ")
    assert predicted(started, color_set / "red" / "0.mp4").status_code == 200


def test_a_costly_upload_is_not_asked_for_again(program, tmp_path):
    """33 megapixels after a small header, and a video that takes more than the CPU time."""
    started = program("--worker-seconds", 1)
    parts = [
        write_video(tmp_path / f"{width}.ts", frames=2, size=(width, height), codec="mpeg2video")
        for width, height in ((64, 48), (7680, 4352))
    ]
    grown = tmp_path / "grown.ts"
    grown.write_bytes(b"".join(part.read_bytes() for part in parts))
    answer = predicted(started, grown)
    assert (answer.status_code, answer.json()["error"]) == (413, "too_many_pixels")
    assert "7680 x 4352" in answer.json()["message"]
    short = write_video(tmp_path / "short.ts", size=(640, 480))
    long = repeat_video(short, tmp_path / "long.ts", 100)
    answer = predicted(started, long, clips=60)
    assert (answer.status_code, answer.json()["error"]) == (422, "decoding_takes_long")
    assert "1 s of CPU time" in answer.json()["message"]
    assert "again" not in answer.json()["message"].lower()


def test_no_result_in_time(program, long):
    started = program("--timeout", 0.05)
    answer = predicted(started, long, clips=20)
    assert (answer.status_code, answer.json()["error"]) == (504, "timeout")
    assert "again" not in answer.json()["message"].lower()


def test_keys_and_other_sites(program, color_set):
    started = program("--api-key", "secret", "--cors-origin", "https://a.example")
    video, key = color_set / "red" / "0.mp4", {"X-API-Key": "secret"}
    foreign = {"Origin": "https://a.example"}
    with started.http as http:
        answer = http.post("/v1/predict", files={"file": video.read_bytes()})
        assert (answer.status_code, answer.json()["error"]) == (401, "api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert http.get("/metrics").status_code == 401
        assert http.get("/healthz").status_code == http.get("/").status_code == 200
        files = {"file": ("a.mp4", video.read_bytes())}
        answer = http.post("/v1/predict", files=files, headers={**key, **foreign})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        refused = http.get("/v1/models", headers=foreign)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://a.example"
        asked = {**foreign, "Access-Control-Request-Method": "POST"}
        assert http.options("/v1/predict", headers=asked).status_code == 200
        asked["Origin"] = "https://b.example"
        assert http.options("/v1/predict", headers=asked).status_code == 400
    address = started.url.replace("http", "ws") + "/v1/stream"
    for start, headers, wanted in (
        ("{}", {}, "error"),
        ('{"api_key": "other"}', {}, "error"),
        ('{"api_key": "secret"}', {}, "ready"),
        ("{}", {"Authorization": "Bearer secret"}, "ready"),
    ):
        with connect(address, additional_headers=headers) as socket:
            socket.send(start)
            assert json.loads(socket.recv(timeout=20))["type"] == wanted


def test_decoders_do_not_know_the_key(program, monkeypatch):
    monkeypatch.setenv("KINEMA_API_KEY", "secret")
    started = program()
    with started.http as http:
        assert http.get("/v1/models").status_code == 401
    for pid in children(started.process.pid):
        assert b"KINEMA_API_KEY" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_fast(program, color_set, causal):
    started = program("--fast", "--max-batch", 4)
    from kinema import Recognizer

    expected = Recognizer.load(causal, device="cpu").predict(color_set / "red" / "0.mp4")
    top = predicted(started, color_set / "red" / "0.mp4").json()["top"]
    assert top[0]["name"] == expected.top[0].name
    assert top[0]["prob"] == pytest.approx(expected.top[0].prob, abs=0.05)
    started.process.send_signal(signal.SIGTERM)
    _, err = ended(started)
    assert "times as fast as the plain network" in err
