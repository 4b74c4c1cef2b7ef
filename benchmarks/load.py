"""Clients of a `kinema serve` process that send videos without a pause and record the answers."""

import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

# Outcome of a request: expected answer; other answer; refused with 503 and Retry-After; or
#
# accepted and not answered.
Fate = Literal["done", "wrong", "refused", "failed"]

_BOUNDARY = "kinema-bench"
_HEADERS = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
# Longer than the server's own limit on a request.
_MOST_S = 120.0
# Of a probability: other batch sizes round differently.
_TOLERANCE = 0.02


@dataclass(frozen=True)
class Upload:
    """Video as a request, and the expected probabilities."""

    name: str
    body: bytes
    probs: Sequence[float]

    @classmethod
    def of(cls, path: Path, probs: Sequence[float]) -> "Upload":
        """Reads the video."""
        head = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; '
            f'filename="{path.name}"\r\n\r\n'
        )
        body = head.encode() + path.read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()
        return cls(path.name, body, probs)


@dataclass(frozen=True)
class Exchange:
    """Request with its start, end (`time.perf_counter`) and outcome."""

    began: float
    ended: float
    fate: Fate
    words: str = ""


def send_load(url: str, uploads: Sequence[Upload], *, clients: int, until: float) -> list[Exchange]:
    """Runs clients that send one video after another, each on its own connection.

    Args:
        url: The server.
        uploads: Videos, sent in turn.
        clients: Concurrent requests.
        until: Latest start of a request, on `time.perf_counter`.
    """
    turns, lock = itertools.cycle(uploads), threading.Lock()

    def next_upload() -> Upload:
        with lock:
            return next(turns)

    def client(_: int) -> list[Exchange]:
        return list(_exchanges(url, next_upload, until))

    with ThreadPoolExecutor(clients, thread_name_prefix="client") as pool:
        return [one for found in pool.map(client, range(clients)) for one in found]


def _exchanges(url: str, next_upload: Callable[[], Upload], until: float) -> Iterator[Exchange]:
    place = urlsplit(url)
    assert place.hostname is not None, "the server tells its address"
    line = http.client.HTTPConnection(place.hostname, place.port, timeout=_MOST_S)
    try:
        while (began := time.perf_counter()) < until:
            fate, words, wait_s = _posted(line, next_upload())
            yield Exchange(began, time.perf_counter(), fate, words)
            time.sleep(wait_s)
    finally:
        line.close()


def _posted(line: http.client.HTTPConnection, upload: Upload) -> tuple[Fate, str, float]:
    """Posts an upload; returns outcome, message, and seconds to wait before the next request."""
    try:
        line.request("POST", "/v1/predict", upload.body, _HEADERS)
        answer = line.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException) as error:
        line.close()  # the next request opens it again
        return "failed", f"{upload.name}: {type(error).__name__}: {error}", 0.1
    if answer.status == 503 and answer.headers["Retry-After"]:
        return "refused", f"{upload.name}: {text.decode()}", float(answer.headers["Retry-After"])
    if answer.status != 200:
        return "failed", f"{upload.name}: {answer.status} {text.decode(errors='replace')}", 0.1
    return *_judged(json.loads(text), upload), 0.0


def _judged(document: Mapping[str, Any], upload: Upload) -> tuple[Fate, str]:
    for said in document["top"]:
        if abs(said["prob"] - upload.probs[said["label"]]) > _TOLERANCE:
            return "wrong", (
                f"{upload.name}: class {said['label']} got {said['prob']:.3f}, offline "
                f"{upload.probs[said['label']]:.3f}"
            )
    return "done", ""
