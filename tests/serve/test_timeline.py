"""Timelines as jobs: the result is that of the offline timeline."""

import json
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import numpy as np
import pytest

import kinema
from kinema import Recognizer
from kinema.decoders.pool import DecoderSettings
from kinema.report.timeline import timeline_document
from kinema.serve.service import Service
from kinema.timeline import SegmentRule, TimelineSettings, timeline
from kinema.values import Preprocessing

from ..random_weights import tiny_network
from .running import running, wait_until, write_video

FIELDS = {"window": 1.0, "stride": 0.5, "smooth": 1, "enter": 0.4, "leave": 0.2, "top": 3}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """100 frames at 12 Hz."""
    return write_video(tmp_path_factory.mktemp("long") / "long.mp4", frames=100)


def posted(http, path, **fields):
    with path.open("rb") as file:
        return http.post("/v1/timeline", files={"file": file}, data=fields)


def finished(http, job: str) -> dict:
    wait_until(
        lambda: http.get(f"/v1/timeline/{job}").json()["state"] not in ("waiting", "running")
    )
    return http.get(f"/v1/timeline/{job}").json()


@pytest.mark.parametrize("model", ["causal", "ahead"])
def test_a_job_gives_the_offline_timeline(server, recognizers, video, model):
    with server.http as http:
        answer = posted(http, video, model=model, **FIELDS)
        assert answer.status_code == 202, answer.text
        job = answer.json()
        assert answer.headers["location"] == f"/v1/timeline/{job['job']}"
        assert (job["file"], job["model"], job["result"]) == ("long.mp4", model, None)
        document = finished(http, job["job"])
    settings = TimelineSettings(window_s=1.0, stride_s=0.5, batch=8)
    rule = SegmentRule(smooth_windows=1, enter=0.4, leave=0.2)
    expected = timeline_document(timeline(recognizers[model], video, settings, rule=rule), top=3)
    assert document["state"] == "done"
    assert document["done"] == document["total"] == len(expected["windows"]) > 10
    assert document["result"] == {**expected, "path": "long.mp4"}


@pytest.mark.slow
def test_a_network_on_snippets_is_served(video, tmp_path):
    how = Preprocessing(frames=4, short_side_px=40, crop_px=32, snippet=5)
    labels = ("red", "green", "blue")
    folder = kinema.save(tiny_network("tdn"), tmp_path / "tdn", labels=labels, preprocessing=how)
    recognizer = Recognizer.load(folder, device="cpu")
    service = Service({"tdn": recognizer}, decoding=DecoderSettings(workers=1))
    with running(service) as started, started.http as http:
        (model,) = http.get("/v1/models").json()["models"]
        with video.open("rb") as file:
            answer = http.post("/v1/predict", files={"file": file}, data={"clips": 2}).json()
        document = finished(http, posted(http, video, **FIELDS).json()["job"])
    assert (model["frames"], model["live"]) == (20, False)
    probs = [(entry["name"], entry["prob"]) for entry in answer["top"]]
    for (name, prob), wanted in zip(probs, recognizer.predict(video, clips=2).top, strict=True):
        assert (name, prob) == (wanted.name, pytest.approx(wanted.prob, abs=1e-5))
    settings = TimelineSettings(window_s=1.0, stride_s=0.5, batch=8)
    rule = SegmentRule(smooth_windows=1, enter=0.4, leave=0.2)
    expected = timeline_document(timeline(recognizer, video, settings, rule=rule), top=3)
    assert document["result"] == {**expected, "path": "long.mp4"}


def test_progress_as_events(server, video):
    with server.http as http:
        job = posted(http, video, **FIELDS).json()["job"]
        events = []
        with http.stream("GET", f"/v1/timeline/{job}/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            for line in stream.iter_lines():
                kind, _, text = line.partition(": ")
                if kind == "event":
                    events.append(text)
                elif kind == "data":
                    document = json.loads(text)
    assert events[-1] == "end"
    assert set(events[:-1]) <= {"progress"}
    assert document["state"] == "done"
    assert document["result"]["windows"]


def test_a_path_below_the_allowed_folder_stays(server, color_set):
    with server.http as http:
        answer = http.post("/v1/timeline", files={"path": (None, "blue/0.mp4")})
        document = finished(http, answer.json()["job"])
    assert document["state"] == "done"
    assert document["result"]["path"] == "blue/0.mp4"
    assert (color_set / "blue" / "0.mp4").exists()


def test_a_broken_video_fails_with_its_name(server, tmp_path):
    broken = tmp_path / "match.mp4"
    broken.write_bytes(b"no video " * 50)
    with server.http as http:
        document = finished(http, posted(http, broken).json()["job"])
    assert document["state"] == "failed"
    error = document["error"]
    assert (error["error"], error["file"]) == ("unreadable", "match.mp4")
    assert error["message"] == "match.mp4 cannot be read: it is damaged or not a video."


def test_a_damaged_end_is_told(server, tmp_path, video):
    data = bytearray(video.read_bytes())
    data[len(data) // 2 : -4000] = bytes(len(data) // 2 - 4000)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    with server.http as http:
        document = finished(http, posted(http, damaged, **FIELDS).json()["job"])
    result = document["result"]
    assert result is None or result["error"] is None or "damaged.mp4" in result["error"]
    assert "/tmp" not in json.dumps(document)


def test_windows_that_would_fill_the_memory(server, video):
    for fields in ({"window": 1e-3, "stride": 1e-3}, {"window": 1e-9}, {"window": 1e-5}):
        with server.http as http:
            document = finished(http, posted(http, video, **fields).json()["job"])
        assert document["state"] == "failed"
        assert document["error"]["error"] in ("too_many_windows", "decoding_needs_memory")
        assert document["error"]["message"].startswith("long.mp4 ")


@pytest.mark.parametrize("start", [0, 8])  # one after the other, and back by 100 s
def test_joined_recordings_are_seen_whole(server, recognizers, tmp_path, start):
    first, second = (
        write_ts(tmp_path / f"{number}.ts", start_s=start_s)
        for number, start_s in enumerate((12.5 * start, 0))
    )
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    with server.http as http:
        document = finished(http, posted(http, path, **FIELDS).json()["job"])
        with path.open("rb") as file:
            facts = http.post("/v1/predict", files={"file": file}).json()["video"]
    assert document["state"] == "done", document["error"]
    assert document["result"]["duration_s"] == 3.0
    starts = [window["start_s"] for window in document["result"]["windows"]]
    assert starts == [0, 0.5, 1, 1.5, 2]
    expected = timeline_document(
        timeline(recognizers["causal"], path, TimelineSettings(1.0, 0.5, batch=8)), top=3
    )
    assert document["result"]["windows"] == expected["windows"]
    assert (facts["frames"], facts["duration_s"]) == (36, 3.0)


def write_ts(path, *, start_s: float):
    """18 frames at 12 Hz."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(18):
            picture = np.full((48, 64, 3), 12 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(12 * start_s) + number, Fraction(1, 12)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


@pytest.mark.slow
def test_a_job_can_be_cancelled_and_forgotten(program, tmp_path):
    long = write_video(tmp_path / "long.mp4", frames=1500, size=(320, 240))
    with program().http as http:
        first = posted(http, long, **FIELDS).json()["job"]
        second = posted(http, long, **FIELDS).json()["job"]
        assert http.get(f"/v1/timeline/{second}").json()["state"] == "waiting"
        for job in (second, first):
            assert http.delete(f"/v1/timeline/{job}").status_code == 200
            assert finished(http, job)["state"] == "cancelled"
        http.delete(f"/v1/timeline/{first}")
        assert http.get(f"/v1/timeline/{first}").status_code == 404
        assert [path.name for path in tmp_path.glob("kinema-serve-*/*")] == ["lock"]


@pytest.mark.slow
def test_uploads_that_end_together_do_not_pass_the_limit(program, tmp_path):
    long = write_video(tmp_path / "long.mp4", frames=1500, size=(320, 240))
    with program("--max-timelines", "1").http as http, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: posted(http, long, **FIELDS), range(8)))
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [202, 202, 503, 503, 503, 503, 503, 503]
        for answer in answers:
            if answer.status_code == 202:
                http.delete(f"/v1/timeline/{answer.json()['job']}")
            else:
                assert answer.json()["error"] == "too_many_timelines"


@pytest.mark.parametrize(
    ("fields", "code", "part"),
    [
        ({"smooth": 2}, "option", "number must be odd"),
        ({"enter": 0.1, "leave": 0.3}, "option", "leave <= enter"),
        ({"window": 0}, "invalid", "window: "),
        ({"background": "geen"}, "option", "Did you mean 'green'"),
        ({"model": "x"}, "no_such_model", "Unknown model"),
    ],
)
def test_wrong_fields_are_told_at_once(server, video, fields, code, part):
    with server.http as http:
        answer = posted(http, video, **fields)
    assert answer.status_code in (404, 422)
    assert answer.json()["error"] == code
    assert part in answer.json()["message"]


def test_uploads_are_deleted(server, video):
    with server.http as http:
        finished(http, posted(http, video).json()["job"])
    folder = server.service.uploads.folder
    wait_until(lambda: [path.name for path in folder.iterdir()] == ["lock"])


@pytest.mark.data
def test_a_preview_is_not_the_video(server, data_dir):
    path = data_dir.parent / "cases" / "preview_track_first" / "two_tracks.mp4"
    with server.http as http:
        with path.open("rb") as file:
            facts = http.post("/v1/predict", files={"file": file}).json()["video"]
        assert (facts["frames"], facts["width"], facts["height"]) == (36, 96, 72)
        document = finished(http, posted(http, path, **FIELDS).json()["job"])
    assert document["state"] == "done"
    assert document["result"]["duration_s"] == 3.0
