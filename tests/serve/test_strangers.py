"""Strangers at the socket: foreign host names, half requests, silence, too many connections."""

import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from kinema.errors import OptionError
from kinema.serve.connections import Connections
from kinema.serve.limits import Access, Limits
from kinema.serve.service import Service

from .running import running, wait_until

HALF = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Never: "


def opened(server, first: bytes = HALF) -> socket.socket:
    address = urlsplit(server.url)
    sender = socket.create_connection((address.hostname, address.port), timeout=20)
    sender.sendall(first)
    return sender


def ends(sender: socket.socket) -> bytes:
    """The rest of what the server sends, until it ends the connection."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while part := sender.recv(65536):
            answer += part
    return answer


@pytest.fixture(scope="module")
def small(recognizers) -> Iterator:
    """Few connections and short times."""
    limits = Limits(connections=12, client_connections=8, head_s=1.0, unread_s=1.0)
    with running(Service(recognizers, limits=limits)) as started:
        yield started


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"])
def test_a_host_that_nobody_configured_is_refused(server, host):
    with server.http as http:
        for method, path in (("GET", "/"), ("GET", "/healthz"), ("POST", "/v1/predict")):
            answer = http.request(method, path, headers={"Host": host})
            assert (answer.status_code, answer.json()["error"]) == (421, "host")
            assert repr(host) in answer.json()["message"]
            assert "--allowed-host" in answer.json()["message"]
    # A page of that host has the same origin, so that only the host tells it apart.
    plain = socket.create_connection(("127.0.0.1", urlsplit(server.url).port))
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{host}/v1/stream", sock=plain, origin=f"http://{host}")
    assert refused.value.response.status_code == 421


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80", "localhost."]
)
def test_loopback_names_are_allowed(server, host):
    with server.http as http:
        assert http.get("/v1/models", headers={"Host": host}).status_code == 200


def test_hosts_can_be_allowed():
    access = Access(hosts=("Kinema.Example", "10.1.2.3", "2001:db8:0::1"))
    for host in ("kinema.example", "KINEMA.example.:80", "10.1.2.3:8000", "[2001:DB8::1]:8000"):
        access.check_host({"host": host}, "127.0.0.1")
    access.check_host({"host": "192.168.0.7:8000"}, "192.168.0.7")  # where the connection arrived
    for host in ("", "other.example", "kinema.example.evil", "10.1.2.4", "kinema.example:80:80"):
        with pytest.raises(Exception, match="does not answer for the host"):
            access.check_host({"host": host}, "127.0.0.1")


@pytest.mark.parametrize("host", ["https://a.example", "a.example:80", "*", "", "a b"])
def test_a_wrong_allowed_host_is_named(host):
    with pytest.raises(ValueError, match="is no host name or address, such as kinema.example"):
        Access(hosts=(host,))


@pytest.mark.slow
@pytest.mark.parametrize("first", [b"", b"G", HALF])
def test_a_head_must_be_complete_in_time(small, first):
    began = time.monotonic()
    with opened(small, first) as sender:
        assert ends(sender) == b""
    assert 0.8 < time.monotonic() - began < 5


@pytest.mark.slow
def test_dripping_does_not_extend_the_time(small):
    began = time.monotonic()
    with opened(small) as sender, contextlib.suppress(OSError):
        while time.monotonic() - began < 8:
            sender.sendall(b"x")
            time.sleep(0.1)
    assert time.monotonic() - began < 5


def test_the_next_request_has_the_same_time(small):
    """One byte after an answer must not count as a request."""
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with opened(small, whole) as sender:
        began = time.monotonic()
        assert sender.recv(65536).startswith(b"HTTP/1.1 200")
        sender.sendall(b"G")
        ends(sender)
    assert 0.8 < time.monotonic() - began < 5


def test_newer_connections_replace_those_that_wait(small):
    with contextlib.ExitStack() as stack:
        halves = [stack.enter_context(opened(small)) for _ in range(30)]
        with small.http as http:
            began = time.monotonic()
            assert http.get("/healthz").json() == {"status": "alive"}
            assert http.get("/v1/models").status_code == 200
            assert time.monotonic() - began < 0.8  # before the others have run out of time
        assert ends(halves[0]) == b""


def test_health_is_answered_when_all_connections_have_requests(small):
    head = b"POST /v1/predict/frames?width=8&height=8 HTTP/1.1\r\nHost: localhost\r\n"
    post = head + b"Content-Length: 1000\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(opened(small, post))
        wait_until(lambda: small.count("requests_in_flight") == 8)
        with small.http as http:
            assert http.get("/healthz").status_code == http.get("/readyz").status_code == 200
            answer = http.get("/v1/models")
            assert (answer.status_code, answer.json()["error"]) == (503, "too_many_connections")
            assert "retry-after" in answer.headers
    wait_until(lambda: small.count("requests_in_flight") == 0)
    with small.http as http:
        assert http.get("/v1/models").status_code == 200


def test_a_body_sent_to_the_health_does_not_keep_a_connection(small):
    """A refused body is read for a while, but not over the limit of connections."""
    head = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n"
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(opened(small, head))
        time.sleep(0.2)
        answer = ends(stack.enter_context(opened(small, head)))
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"too_many_connections" in answer
        assert time.monotonic() - began < 3


def test_web_sockets_that_say_nothing_count_too(small):
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(connect(small.websocket))
        for _ in range(8):
            stack.enter_context(connect(small.websocket))
        with pytest.raises(Exception, match="no close frame"):
            first.recv(timeout=5)
        with small.http as http:
            assert http.get("/v1/models").status_code == 200


def test_an_answer_must_be_read(small):
    """Requests in a row whose answers nobody reads."""
    many = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000
    address = urlsplit(small.url)
    with socket.socket() as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sender.settimeout(20)
        sender.connect((address.hostname, address.port))
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for _ in range(100):
                sender.sendall(many)
        assert time.monotonic() - began < 10


def test_health_can_be_asked_without_a_body(server):
    with server.http as http:
        for path in ("/healthz", "/readyz"):
            answer = http.head(path)
            assert (answer.status_code, answer.content) == (200, b"")


def test_text_that_is_not_utf8(server, capfd):
    with connect(server.websocket) as stream:
        stream.send(b"\xff\xfe", text=True)
        with pytest.raises(Exception, match="1007"):
            stream.recv(timeout=10)
    assert "Traceback" not in capfd.readouterr().err


def test_connections_need_files():
    with pytest.raises(OptionError, match="lower --max-connections, or raise the limit"):
        Connections(Limits(connections=1 << 40))


HALVES, FLOOD_S = 1100, 60


@pytest.fixture
def many_files() -> Iterator[None]:
    """Open files for all half heads of the flood."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = HALVES + 256
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this process may have {hard} open files, {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.usefixtures("many_files")
@pytest.mark.timeout(300)
def test_a_flood_of_half_heads(program, color_set):
    """1,100 half heads for 60 s, some new each time; the server holds no more than its limit."""
    started = program("--max-connections", 512)
    video = (color_set / "red" / "0.mp4").read_bytes()
    until = time.monotonic() + FLOOD_S
    health: list[float] = []

    def ask_health() -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            with httpx2.Client(base_url=started.url, timeout=20) as http:
                assert http.get("/healthz").status_code == 200
            health.append(time.monotonic() - began)
            time.sleep(0.2)

    halves: list[socket.socket] = []
    served = 0
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_health)
        try:
            while time.monotonic() < until:
                while len(halves) < HALVES:
                    halves.append(opened(started))
                with httpx2.Client(base_url=started.url, timeout=20) as http:
                    answer = http.post("/v1/predict", files={"file": ("a.mp4", video)})
                assert answer.status_code == 200
                served += 1
                for old in halves[:50]:
                    old.close()
                del halves[:50]
            assert len(os.listdir(f"/proc/{started.process.pid}/fd")) < 512 + 256
            asking.result()
        finally:
            for old in halves:
                old.close()
    assert max(health) < 1.0
    assert len(health) >= 60
    assert served >= 30
