"""Ids, log and counts of requests; prefixes of proxies; uploads of killed servers."""

import re
import signal
import socket
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

from kinema.serve.limits import Limits, RefusedError
from kinema.serve.rates import Rates, client_of
from kinema.serve.service import Service

from .running import running, wait_until

FORM = (
    b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n\xff\xfe\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="\xff"\r\n\r\n\xff\r\n--b--\r\n'
)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def lines_of(program) -> list[str]:
    program.process.send_signal(signal.SIGTERM)
    _, err = program.process.communicate(timeout=60)
    assert "Traceback" not in err
    return [line for line in err.splitlines() if " id=" in line]


@pytest.mark.slow
def test_every_request_is_logged_with_its_id(program):
    started = program("--api-key", "secret", "--access-log")
    key = {"X-API-Key": "secret"}
    with started.http as http:
        for path in ("/healthz", "/readyz"):
            assert http.get(path).headers["x-request-id"]
        answer = http.get("/v1/models?x=1", headers={**key, "traceparent": TRACE})
        first = answer.headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{16}", first)
        own = {"X-Request-ID": "order-66", "traceparent": "x\ty"}
        assert http.get("/v1/models", headers=own).headers["x-request-id"] == "order-66"
        answer = http.get("/a%0Ab%1b[1m", headers={"X-Request-ID": "a b"})
        assert answer.headers["x-request-id"] not in ("", "a b")
        with connect(started.url.replace("http", "ws") + "/v1/stream") as stream:
            stream.send("{}")
            assert "api_key" in stream.recv(timeout=20)
        http.get("/healthz", headers={"Host": "evil.example"})
        counts = http.get("/metrics", headers=key).text
    for reason, count in (("api_key", 2), ("not_found", 1), ("host", 1)):
        assert f'kinema_refusals_total{{reason="{reason}"}} {count}.0' in counts
    lines = [re.sub(r"[0-9.]+ s id", "T s id", line) for line in lines_of(started)]
    last = lines[2].partition(" id=")[2]
    assert lines[:3] == [
        f"127.0.0.1 GET /v1/models 200 - T s id={first} traceparent={TRACE}",
        "127.0.0.1 GET /v1/models 401 api_key T s id=order-66",
        f"127.0.0.1 GET /a%0Ab%1b[1m 404 not_found T s id={last}",
    ]
    assert lines[3].startswith("127.0.0.1 WEBSOCKET /v1/stream 101 - T s id=")
    assert len(lines) == 5, lines  # and the one for the numbers; none for health


def test_a_bug_is_answered_with_an_id_and_counted(server, caplog):
    before = server.count("refusals_total", reason="internal")
    server.service.models["broken"] = None
    try:
        with server.http as http:
            answer = http.get("/v1/models", headers={"X-Request-ID": "mine"})
    finally:
        del server.service.models["broken"]
    assert (answer.status_code, answer.json()["error"]) == (500, "internal")
    assert answer.json()["message"] == "AttributeError in the server; its log says more."
    assert answer.headers["x-request-id"] == "mine"
    assert server.count("refusals_total", reason="internal") == before + 1
    (record,) = [r for r in caplog.records if "mine" in r.getMessage()]
    assert record.exc_info is not None
    assert record.getMessage() == "The request with the id mine failed."


@pytest.mark.slow
def test_the_prefix_of_a_proxy(program, color_set):
    """The proxy takes "/kinema" away; the key is needed all the same."""
    started = program(*("--root-path", "/kinema", "--api-key", "secret"))
    key = {"X-API-Key": "secret"}
    video = {"file": ("a.mp4", (color_set / "red" / "0.mp4").read_bytes())}
    with started.http as http:
        assert http.get("/healthz").status_code == http.get("/").status_code == 200
        assert http.get("/v1/models").status_code == http.get("/metrics").status_code == 401
        document = http.get("/openapi.json").json()
        assert document["servers"] == [{"url": "/kinema"}]
        answer = http.post("/v1/timeline", files=video, headers=key)
        place = answer.headers["location"]
        assert place == f"/kinema/v1/timeline/{answer.json()['job']}"
        assert http.get(place.removeprefix("/kinema"), headers=key).status_code == 200
    assert lines_of(started) == []


@pytest.mark.slow
def test_the_description_lets_a_client_upload(server):
    with server.http as http:
        document = http.get("/openapi.json").json()
    assert document["servers"] == [{"url": "/"}]
    for path in ("/v1/predict", "/v1/timeline"):
        body = document["paths"][path]["post"]["requestBody"]
        name = body["content"]["multipart/form-data"]["schema"]["$ref"].rpartition("/")[2]
        schema = document["components"]["schemas"][name]
        file = schema["properties"]["file"]
        assert (file["type"], file["format"]) == ("string", "binary")
        assert file["description"] == "Video file to upload."
        assert "path" in schema["properties"]
        assert body["required"]
    schemes = document["components"]["securitySchemes"]
    assert schemes["key"] == {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    assert schemes["bearer"] == {"type": "http", "scheme": "bearer"}
    needed = [{"key": []}, {"bearer": []}, {}]
    assert document["paths"]["/v1/predict"]["post"]["security"] == needed
    assert document["paths"]["/metrics"]["get"]["security"] == needed
    assert "security" not in document["paths"]["/healthz"]["get"]


@pytest.mark.slow
def test_a_killed_server_leaves_uploads_that_the_next_one_deletes(program, tmp_path):
    first = program()
    (folder,) = tmp_path.glob("kinema-serve-*")
    (folder / "upload.mp4").write_bytes(b"1")
    program()
    assert (folder / "upload.mp4").exists()  # the first one still runs
    first.process.kill()
    first.process.wait()
    others = set(tmp_path.glob("kinema-serve-*")) - {folder}
    program()
    assert not folder.exists()
    assert others < set(tmp_path.glob("kinema-serve-*"))


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /%ff%fe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-API-Key: \xff\r\n"
        b"Connection: close\r\n\r\n",
        b"GET /v1/timeline/%80?%ff=%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n%b"
        % (len(FORM), FORM),
        b"\xff\xfe\xfd\r\n\r\n",
    ],
)
def test_malformed_text_costs_no_traceback(server, sent, capfd):
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as client:
        client.sendall(sent)
        assert client.recv(65536).startswith(b"HTTP/1.1 4") or b"v1/models" in sent
    assert "Traceback" not in capfd.readouterr().err
    with server.http as http:
        assert http.get("/healthz").status_code == 200


@pytest.mark.slow
def test_requests_of_one_client_per_minute(recognizers):
    with running(Service(recognizers, limits=Limits(client_per_minute=3))) as started:
        with started.http as http:
            for _ in range(3):
                assert http.post("/v1/predict", files={"file": b"x"}).status_code == 422
            answer = http.post("/v1/predict", files={"file": b"x"})
            assert (answer.status_code, answer.json()["error"]) == (429, "too_many_per_minute")
            assert 1 <= int(answer.headers["retry-after"]) <= 20
            assert "more than 3 requests in a minute" in answer.json()["message"]
            assert http.get("/v1/models").status_code == 200
        with connect(started.websocket) as stream:
            assert "too_many_per_minute" in stream.recv(timeout=10)
        wait_until(lambda: started.count("refusals_total", reason="too_many_per_minute") == 2)


def test_a_bucket_fills_again(monkeypatch):
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    rates = Rates(2)
    rates.check("10.0.0.1")
    rates.check("10.0.0.1")
    rates.check("10.0.0.2")
    with pytest.raises(RefusedError) as refused:
        rates.check("10.0.0.1")
    assert refused.value.headers == {"Retry-After": "30"}
    now = 1030.0
    rates.check("10.0.0.1")
    with pytest.raises(RefusedError):
        rates.check("10.0.0.1")
    Rates(0).check("10.0.0.1")
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert client_of("::ffff:10.0.0.1") == "10.0.0.1"
    assert client_of(None) == "unknown"
