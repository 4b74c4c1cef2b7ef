"""Uploads and raw frames: the answers are those of `Recognizer`, and clips share batches."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kinema import Recognizer
from kinema.data.sampling import sampling_of
from kinema.data.transforms import ViewTransform, normalize
from kinema.decoders.pool import DecoderSettings
from kinema.serve.service import Service
from kinema.values import Views
from kinema.video.decode import VideoFile

from ..random_weights import spread_scores
from .running import Running, running


def post(server: Running, path, **fields):
    with path.open("rb") as file, server.http as http:
        return http.post("/v1/predict", files={"file": file}, data=fields)


def assert_same(answer, prediction):
    assert answer.status_code == 200, answer.text
    top = answer.json()["top"]
    assert [entry["name"] for entry in top] == [c.name for c in prediction.top]
    assert [entry["prob"] for entry in top] == pytest.approx(
        [c.prob for c in prediction.top], abs=1e-5
    )


@pytest.mark.parametrize(("model", "clips", "crops"), [("causal", 1, 1), ("ahead", 3, 10)])
def test_an_upload_is_predicted_as_by_the_recognizer(
    server, recognizers, color_set, model, clips, crops
):
    for video in sorted(color_set.rglob("*.mp4")):
        expected = recognizers[model].predict(video, clips=clips, crops=crops)
        assert_same(post(server, video, model=model, clips=clips, crops=crops), expected)


def test_probabilities_are_averaged_where_the_network_says_so(checkpoint):
    own = Recognizer.load(checkpoint, device="cpu")
    own.preprocessing = how = replace(own.preprocessing, average="probs")
    frames = np.random.default_rng(1).integers(0, 256, (9, 48, 60, 3), np.uint8)
    clips = ViewTransform(how, Views(crops=10))(torch.from_numpy(frames[:4]).permute(0, 3, 1, 2))
    spread_scores(own.net, normalize(clips, how.mean, how.std))
    query = {"width": 60, "height": 48, "clips": 2, "crops": 10}
    service = Service({"own": own}, decoding=DecoderSettings(workers=1))
    with running(service) as server, server.http as http:
        answer = http.post("/v1/predict/frames", params=query, content=frames.tobytes())
    assert_same(answer, own.predict_frames(frames, clips=2, crops=10))
    own.preprocessing = replace(how, average="scores")
    of_scores = own.predict_frames(frames, clips=2, crops=10)
    assert abs(answer.json()["top"][0]["prob"] - of_scores.top[0].prob) > 0.01


def test_the_answer_tells_about_the_video_and_the_frames_seen(server, recognizers, color_set):
    video = color_set / "red" / "0.mp4"
    document = post(server, video, clips=2, crops=3, top=2, frames="true").json()
    facts = document["video"]
    assert (document["model"], document["file"]) == ("causal", "0.mp4")
    assert (facts["frames"], facts["duration_s"], facts["width"]) == (12, 1, 64)
    assert len(document["top"]) == 2
    numbers = sampling_of(recognizers["causal"].preprocessing).test(12, 2)
    assert [seen["frame"] for seen in document["seen"]] == numbers.ravel().tolist()
    assert [seen["clip"] for seen in document["seen"]] == [0] * 4 + [1] * 4
    with VideoFile(video) as file:
        times_s = file.times_s(numbers.ravel())
    assert [seen["time_s"] for seen in document["seen"]] == pytest.approx(times_s)
    kind, _, data = document["seen"][0]["image"].partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (kind, image.size) == ("data:image/jpeg;base64", (32, 32))
    red, green, _ = np.asarray(image).reshape(-1, 3).mean(0)
    assert red > green + 80


def test_a_path_below_the_allowed_folder(server, recognizers, color_set):
    with server.http as http:
        answer = http.post("/v1/predict", files={"path": (None, "green/1.mp4")})
    assert_same(answer, recognizers["causal"].predict(color_set / "green" / "1.mp4"))
    assert answer.json()["file"] == "green/1.mp4"


def test_raw_frames_are_predicted_as_by_the_recognizer(server, recognizers):
    frames = np.random.default_rng(1).integers(0, 256, (9, 48, 60, 3), np.uint8)
    query = {"width": 60, "height": 48, "clips": 2, "crops": 3, "model": "ahead"}
    with server.http as http:
        answer = http.post("/v1/predict/frames", params=query, content=frames.tobytes())
    assert_same(answer, recognizers["ahead"].predict_frames(frames, clips=2, crops=3))
    assert answer.json()["video"]["frames"] == 9


def test_clips_of_different_requests_share_a_batch(server, color_set):
    videos = sorted(color_set.rglob("*.mp4"))
    labels = {"model": "causal"}
    before = server.count("batch_requests_count", **labels)
    requests_before = server.count("batch_requests_sum", **labels)
    alone = [post(server, video).json()["top"] for video in videos]
    assert server.count("batch_requests_count", **labels) == before + 6
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda video: post(server, video).json()["top"], videos))
    assert server.count("batch_requests_sum", **labels) == requests_before + 12
    assert server.count("batch_requests_count", **labels) < before + 12
    for one, other in zip(alone, together, strict=True):
        assert [e["prob"] for e in one] == pytest.approx([e["prob"] for e in other], abs=1e-5)


@pytest.mark.slow
@pytest.mark.data
def test_real_clips_are_predicted_as_by_the_recognizer(program, causal, data_dir):
    recognizer, started = Recognizer.load(causal, device="cpu"), program()
    clips = sorted(
        path
        for path in (data_dir / "clips").iterdir()
        if path.suffix in (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif")
    )
    assert len(clips) > 30
    for clip in clips:
        with clip.open("rb") as file, started.http as http:
            answer = http.post("/v1/predict", files={"file": file}, data={"clips": 2, "crops": 3})
        if clip.name == "bad_corrupted.mp4":
            assert answer.status_code == 422
            assert "bad_corrupted.mp4 cannot be read" in answer.json()["message"]
            assert "28 frames" in answer.json()["message"]
        else:
            assert_same(answer, recognizer.predict(clip, clips=2, crops=3))
