"""Networks that are replaced while the server runs."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.sync.client import connect

import kinema
from kinema.serve.limits import Access
from kinema.serve.service import NetworkFolders, Service
from kinema.values import Preprocessing

from .running import Running, running, wait_until

KEY = {"X-API-Key": "secret"}
URL = "/v1/models/net/reload"


def save(folder: Path, *labels: str, frames: int = 4) -> None:
    net = kinema.create_model("tsm_test_resnet", classes=len(labels), frames=frames, causal=True)
    how = Preprocessing(frames=frames, short_side_px=40, crop_px=32)
    kinema.save(net, folder, labels=labels, preprocessing=how, overwrite=True)


@pytest.fixture
def served(tmp_path):
    save(tmp_path / "net", "one", "two")
    source = NetworkFolders({"net": tmp_path / "net"}, "cpu")
    models = {"net": source.load("net")}
    access = Access(api_key="secret")
    with running(Service(models, access=access, source=source)) as started:
        yield started


def predicted(server: Running, path: Path) -> set[str]:
    with server.http as http:
        files = {"file": ("a.mp4", path.read_bytes())}
        answer = http.post("/v1/predict", files=files, headers=KEY)
    assert answer.status_code == 200, answer.text
    return {entry["name"] for entry in answer.json()["top"]}


def test_a_network_is_replaced(served, tmp_path, color_set):
    video = color_set / "red" / "0.mp4"
    assert predicted(served, video) == {"one", "two"}
    with served.http as http, connect(served.websocket, additional_headers=KEY) as stream:
        stream.send('{"format": "rgb24", "width": 8, "height": 8}')
        stream.recv(timeout=20)
        save(tmp_path / "net", "three", "four", "five", frames=6)
        assert http.post(URL).status_code == 401
        answer = http.post(URL, headers=KEY)
        assert answer.status_code == 200, answer.text
        assert answer.json()["classes"] == ["three", "four", "five"]
        assert answer.json()["frames"] == 6
        assert predicted(served, video) == {"three", "four", "five"}
        stream.send(bytes(8 * 8 * 3))  # the stream ends on the network with which it began
        assert '"one"' in stream.recv(timeout=20)


@pytest.mark.slow
def test_a_failure_keeps_the_old_network(served, tmp_path, color_set):
    (tmp_path / "net" / "model.safetensors").write_bytes(b"damaged")
    with served.http as http:
        answer = http.post(URL, headers=KEY)
        assert (answer.status_code, answer.json()["error"]) == (422, "not_loaded")
        message = answer.json()["message"]
        assert message.startswith("The model 'net' keeps its network, the new one cannot be loaded")
        assert str(tmp_path) not in message
        shutil.rmtree(tmp_path / "net")
        assert http.post(URL, headers=KEY).status_code == 422
        answer = http.post("/v1/models/nett/reload", headers=KEY)
        assert (answer.status_code, answer.json()["error"]) == (404, "no_such_model")
    assert predicted(served, color_set / "red" / "0.mp4") == {"one", "two"}


@pytest.mark.slow
def test_requests_in_flight_end_on_the_old_network(served, tmp_path, color_set):
    """All answers are whole, and are of one of both networks."""
    video = color_set / "red" / "0.mp4"
    with ThreadPoolExecutor(4) as pool, served.http as http:
        answers = [pool.submit(predicted, served, video) for _ in range(12)]
        wait_until(lambda: served.count("requests_in_flight") >= 1)
        save(tmp_path / "net", "three", "four")
        assert http.post(URL, headers=KEY).status_code == 200
        seen = [answer.result() for answer in answers]
    assert all(names in ({"one", "two"}, {"three", "four"}) for names in seen)
    assert predicted(served, video) == {"three", "four"}


@pytest.mark.slow
def test_a_network_that_is_being_loaded(served):
    with ThreadPoolExecutor(4) as pool, served.http as http:
        tries = [pool.submit(http.post, URL, headers=KEY) for _ in range(4)]
        statuses = {answer.result().status_code for answer in tries}
    assert statuses <= {200, 409}
    assert 200 in statuses


def test_without_a_key_nobody_replaces_networks(server):
    with server.http as http:
        answer = http.post("/v1/models/causal/reload")
    assert (answer.status_code, answer.json()["error"]) == (403, "needs_api_key")
    assert "start the server with a key" in answer.json()["message"]
