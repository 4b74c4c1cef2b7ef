"""Live streams over a real WebSocket: the network's scores, one memory for each connection."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from kinema.data.transforms import ViewTransform, normalize
from kinema.live.smoothing import WindowMean
from kinema.values import Views

SIZE = {"width": 64, "height": 48}
RAW = {"format": "rgb24", "top": 3, **SIZE}


@pytest.fixture
def frames() -> np.ndarray:
    """(n, H, W, 3)."""
    return np.random.default_rng(2).integers(0, 256, (7, 48, 64, 3), np.uint8)


@contextmanager
def opened(server, **start) -> Iterator[ClientConnection]:
    with connect(server.websocket) as socket:
        socket.send(json.dumps(start))
        yield socket


@contextmanager
def ready(server, **start) -> Iterator[ClientConnection]:
    with opened(server, **start) as socket:
        assert json.loads(socket.recv(timeout=20))["type"] == "ready"
        yield socket


def answer(socket: ClientConnection, frame: bytes) -> dict:
    socket.send(frame)
    return json.loads(socket.recv(timeout=20))


def offline_probs(recognizer, frames: np.ndarray, smooth: int) -> np.ndarray:
    """(n, K) of the causal network on the whole video, smoothed."""
    how = recognizer.preprocessing
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2)
    with torch.no_grad():
        scores_BTK = recognizer.net.frame_scores(
            normalize(ViewTransform(how, Views())(clip), how.mean, how.std)
        )
    state, rows = (), []
    for probs_1K in scores_BTK[0].softmax(1).unsqueeze(1):
        smoothed, state = WindowMean(smooth).advance(probs_1K, state)
        rows.append(smoothed[0])
    return torch.stack(rows).numpy()


def probs_of(result: dict) -> list[float]:
    return [entry["prob"] for entry in sorted(result["top"], key=lambda entry: entry["label"])]


@pytest.mark.parametrize("smooth", [1, 3])
def test_a_stream_is_the_causal_network_on_the_whole_video(server, recognizers, frames, smooth):
    expected = offline_probs(recognizers["causal"], frames, smooth)
    with ready(server, smooth_frames=smooth, **RAW) as socket:
        for number, frame in enumerate(frames):
            result = answer(socket, frame.tobytes())
            assert (result["type"], result["frame"]) == ("result", number)
            assert probs_of(result) == pytest.approx(expected[number].tolist(), abs=1e-5)
            best = int(expected[number].argmax())
            assert result["top"][0]["label"] == best
            if expected[number, best] >= 0.6:
                assert result["shown"]["label"] == best
            assert result["latency_ms"] > 0


def test_every_connection_has_its_own_memory(server, recognizers, frames):
    other = frames[::-1].copy()
    wanted = offline_probs(recognizers["causal"], frames, 1)
    wanted_other = offline_probs(recognizers["causal"], other, 1)
    start = {"smooth_frames": 1, **RAW}
    with ready(server, **start) as one, ready(server, **start) as two:
        assert server.count("streams") == 2
        for number in range(len(frames)):
            first = answer(one, frames[number].tobytes())
            second = answer(two, other[number].tobytes())
            assert probs_of(first) == pytest.approx(wanted[number].tolist(), abs=1e-5)
            assert probs_of(second) == pytest.approx(wanted_other[number].tolist(), abs=1e-5)


def test_images_are_decoded_elsewhere(server, recognizers, frames):
    expected = offline_probs(recognizers["causal"], frames, 1)
    decoded = server.count("decode_seconds_count")
    with ready(server, smooth_frames=1) as socket:
        for number, frame in enumerate(frames[:3]):
            file = io.BytesIO()
            Image.fromarray(frame).save(file, "PNG")
            result = answer(socket, file.getvalue())
            assert probs_of(result) == pytest.approx(expected[number].tolist(), abs=1e-5)
        file = io.BytesIO()
        Image.fromarray(frames[3]).save(file, "JPEG")
        assert answer(socket, file.getvalue())["frame"] == 3
    assert server.count("decode_seconds_count") == decoded + 4


def test_a_bad_frame_costs_itself(server, frames):
    large = io.BytesIO()
    Image.new("L", (200, 200)).save(large, "PNG")
    with ready(server) as socket:
        broken = answer(socket, b"no image")
        assert (broken["type"], broken["error"], broken["frame"]) == ("error", "unreadable", 0)
        assert "frame 0" in broken["message"]
        assert answer(socket, large.getvalue())["error"] == "too_many_pixels"
        assert answer(socket, b"")["error"] == "unreadable"
        socket.send("text")
        assert json.loads(socket.recv(timeout=20))["error"] == "no_frame"
        file = io.BytesIO()
        Image.fromarray(frames[0]).save(file, "PNG")
        assert answer(socket, file.getvalue())["type"] == "result"
    with ready(server, **RAW) as socket:
        wrong = answer(socket, bytes(100))
        assert "64 x 48 pixels has 9216 bytes" in wrong["message"]
        assert answer(socket, frames[0].tobytes())["frame"] == 1


@pytest.mark.parametrize(
    ("start", "code", "part"),
    [
        ({"model": "ahead"}, "not_causal", "looks ahead"),
        ({"model": "x"}, "no_such_model", "Unknown model 'x'"),
        ({"format": "rgb24"}, "no_start", "need width and height"),
        ({"topp": 3}, "no_start", "no field 'topp'. Did you mean 'top'?"),
        ({"enter": 0.2, "leave": 0.4}, "option", "leave <= enter"),
    ],
)
def test_wrong_starts(server, start, code, part):
    with opened(server, **start) as socket:
        error = json.loads(socket.recv(timeout=20))
        assert (error["type"], error["error"]) == ("error", code)
        assert part in error["message"]
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=20)


def test_too_many_streams(server):
    with ready(server), ready(server), opened(server) as third:
        error = json.loads(third.recv(timeout=20))
        assert error["error"] == "too_many_streams"
        with pytest.raises(ConnectionClosed) as closed:
            third.recv(timeout=20)
        assert closed.value.rcvd.code == 1013
    with ready(server):
        pass


def test_a_frame_of_too_many_bytes_ends_the_stream(server):
    with ready(server) as socket:
        socket.send(bytes(60_001))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
        assert closed.value.rcvd.code == 1009


def test_pages_of_other_sites_get_no_stream(server):
    with (
        pytest.raises(InvalidStatus, match="403"),
        connect(server.websocket, origin="https://evil.example"),
    ):
        pass
    with connect(server.websocket, origin=server.url):
        pass
