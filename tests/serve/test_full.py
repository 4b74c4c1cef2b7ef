"""A full disk and a lack of file descriptors during an upload; forms that are wrong."""

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .running import Program, children, wait_until

MIB = 1 << 20


@contextmanager
def limited(program: Program, which: int, most: int) -> Iterator[None]:
    before = resource.prlimit(program.process.pid, which)
    resource.prlimit(program.process.pid, which, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(program.process.pid, which, before)


def stopped(program: Program) -> str:
    """All that the program logged, without line breaks."""
    program.process.send_signal(signal.SIGTERM)
    _, err = program.process.communicate(timeout=60)
    return " ".join(err.split())


def check_full(program: Program, folder: Path, good: bytes) -> None:
    """Uploads of 3 MiB do not fit, small ones do; nothing stays, the log has one line for each."""
    large = {"file": ("large.mp4", bytes(3 * MIB))}
    with program.http as http:
        for answer in (
            http.post("/v1/predict", files=large),
            http.post("/v1/predict/frames?width=8&height=8", content=bytes(3 * MIB)),
        ):
            assert (answer.status_code, answer.json()["error"]) == (507, "disk_full")
            assert "no room for the upload" in answer.json()["message"]
        assert not list(folder.glob("kinema-serve-*/*.mp4"))
        assert http.post("/v1/predict", files={"file": ("a.mp4", good)}).status_code == 200
    err = stopped(program)
    assert err.count("The disk of the server is full") == 2
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_full_disk(program, tmp_path, color_set):
    """A disk of 2 MiB; where this user may not mount one, the largest file stands for it."""
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "kinema", str(tmp_path)]
    is_mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    good = (color_set / "red" / "0.mp4").read_bytes()
    try:
        started = program()
        if is_mounted:
            check_full(started, tmp_path, good)
        else:
            with limited(started, resource.RLIMIT_FSIZE, 2 * MIB):
                check_full(started, tmp_path, good)
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.mark.slow
def test_no_file_descriptors(program, tmp_path, color_set):
    started = program()
    good = {"file": ("a.mp4", (color_set / "red" / "0.mp4").read_bytes())}
    with started.http as http:  # one connection for all requests
        assert http.post("/v1/predict", files=good).status_code == 200
        held = max(map(int, os.listdir(f"/proc/{started.process.pid}/fd")))
        with limited(started, resource.RLIMIT_NOFILE, held + 1):
            answer = http.post("/v1/predict", files=good)
        assert (answer.status_code, answer.json()["error"]) == (503, "too_many_files")
        assert "retry-after" in answer.headers
        assert not list(tmp_path.glob("kinema-serve-*/*.mp4"))
        assert http.post("/v1/predict", files=good).status_code == 200
    err = stopped(started)
    assert err.count("as many open files as the system allows") == 1
    assert "Traceback" not in err


@pytest.mark.slow
def test_no_file_descriptors_for_connections(program):
    """New connections wait for a free descriptor; the log has one line, not one for each try."""
    started = program()
    place = urlsplit(started.url)
    with started.http as http:
        assert http.get("/healthz").status_code == 200
        held = max(map(int, os.listdir(f"/proc/{started.process.pid}/fd")))
        with ExitStack() as stack:
            with limited(started, resource.RLIMIT_NOFILE, held + 1):
                for _ in range(40):
                    new = socket.create_connection((place.hostname, place.port), timeout=20)
                    stack.enter_context(new)
                time.sleep(2.5)
                assert http.get("/healthz").status_code == 200  # on the connection of before
            new.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert new.recv(100).startswith(b"HTTP/1.1 200")
    with started.http as http:
        assert http.get("/healthz").status_code == 200
    err = stopped(started)
    line = "No connection can be accepted (too many open files)"
    assert err.count(line) == 1, err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_form_lies_on_the_disk_once(program, tmp_path):
    started = program("--workers", 1)
    (parent,) = [pid for pid in children(started.process.pid) if children(pid)]
    (decoder,) = children(parent)
    os.kill(decoder, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool, started.http as http:
        files = {"file": ("a.mp4", os.urandom(3 * MIB))}
        answer = pool.submit(http.post, "/v1/predict", files=files)
        wait_until(lambda: bytes_on_disk(started, tmp_path) >= 3 * MIB)
        with started.http as other:
            wait_until(lambda: "kinema_decoding 1.0" in other.get("/metrics").text)
        assert bytes_on_disk(started, tmp_path) < 4 * MIB
        os.kill(decoder, signal.SIGCONT)
        assert answer.result().status_code == 422


def bytes_on_disk(program: Program, folder: Path) -> int:
    """Bytes of all files below a folder, also of those without a name that the program holds."""
    opened = []
    for file in Path(f"/proc/{program.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(file).startswith(str(folder)):
                opened.append(file)
    named = [path for path in folder.rglob("*") if path.is_file()]
    facts = [path.stat() for path in (*opened, *named)]
    return sum({(fact.st_dev, fact.st_ino): fact.st_size for fact in facts}.values())


def test_a_second_file_is_refused(server, color_set):
    video = (color_set / "red" / "0.mp4").read_bytes()
    several = [("file", ("a.mp4", video)), ("file", ("b.mp4", video))]
    other = [("file", ("a.mp4", video)), ("more", ("b.mp4", video))]
    with server.http as http:
        for url in ("/v1/predict", "/v1/timeline"):
            for files in (several, other):
                answer = http.post(url, files=files)
                assert (answer.status_code, answer.json()["error"]) == (422, "source")
                assert answer.json()["message"].startswith("The form has two files.")
    assert not list(server.service.uploads.folder.glob("*.mp4"))


@pytest.mark.parametrize(
    ("parts", "status", "message"),
    [
        ([("file", (None, "text"))], 422, "file: Send it as a file, with a file name."),
        ([("path", ("a.mp4", b"1"))], 422, "path: Input should be a valid string."),
        ([("path", (None, "a")), ("path", (None, "b"))], 422, "path: It came 2 times."),
        ([("top", (None, ""))], 422, "Send the video as `file`, or name it as `path`"),
    ],
)
def test_wrong_forms(server, parts, status, message):
    with server.http as http:
        answer = http.post("/v1/predict", files=parts)
    assert answer.status_code == status
    assert message in answer.json()["message"]
    assert not list(server.service.uploads.folder.glob("*.mp4"))


def test_a_damaged_form(server):
    kind = {"Content-Type": "multipart/form-data"}
    with server.http as http:
        answer = http.post("/v1/predict", content=b"x", headers=kind)
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
        assert "boundary" in answer.json()["message"]
        kind["Content-Type"] += "; boundary=b"
        answer = http.post("/v1/predict", content=b"x", headers=kind)
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")


@pytest.mark.parametrize("charset", ["punycode", "undefined", "utf-16"])
def test_a_form_is_utf8(server, charset):
    """Punycode takes Python the square of the length, and the codec "undefined" always fails."""
    kind = {"Content-Type": f"multipart/form-data; boundary=b; charset={charset}"}
    text = b"a" * 100_000 + b"-" + b"z9" * 40_000
    part = b'--b\r\nContent-Disposition: form-data; name="path"\r\n\r\n' + text + b"\r\n--b--\r\n"
    with server.http as http:
        began = time.monotonic()
        answer = http.post("/v1/predict", content=part, headers=kind)
        assert time.monotonic() - began < 5
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
        assert "charset=utf-8" in answer.json()["message"]
        kind["Content-Type"] = "multipart/form-data; boundary=b; charset=UTF-8"
        assert http.post("/v1/predict", content=part, headers=kind).status_code == 404


def test_messages_quote_no_limits_of_python(server):
    with server.http as http:
        answer = http.post("/v1/predict", files={"crops": (None, "1" * 5000)})
        assert answer.json()["message"] == "crops: Input should be 1, 3 or 10."
        answer = http.post("/v1/predict", data={f"x{n}": "1" for n in range(1001)})
        message = "POST /v1/predict: Too many fields. Maximum number of fields is 1000."
        assert answer.json()["message"] == message
