"""A real server on a loopback socket, in a thread of the tests; and as a process of its own."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import httpx2
import numpy as np

from kinema.serve.limits import JobSettings
from kinema.serve.server import Server, address_of, listen
from kinema.serve.service import Service


@dataclass(frozen=True)
class Running:
    """A server in a thread of this process."""

    url: str
    service: Service

    @property
    def http(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=60)

    @property
    def websocket(self) -> str:
        return self.url.replace("http", "ws") + "/v1/stream"

    def count(self, name: str, **labels: str) -> float:
        """A number of /metrics."""
        return self.service.metrics.registry.get_sample_value(f"kinema_{name}", labels) or 0.0


@contextmanager
def running(service: Service, jobs: JobSettings | None = None) -> Iterator[Running]:
    """Serves in a thread until the end of the block."""
    ready, listening = threading.Event(), listen("127.0.0.1", 0)
    server = Server(service, jobs=jobs, grace_s=10, on_ready=ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        assert ready.wait(60), "the server did not start"
        yield Running(address_of(listening), service)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def write_video(
    path: Path,
    *,
    frames: int = 12,
    size: tuple[int, int] = (64, 48),
    rate: int = 12,
    codec: str = "mpeg4",
) -> Path:
    """Noise that changes its color every 20 frames."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            picture = rng.integers(0, 90, (size[1], size[0], 3), dtype=np.uint8)
            picture[..., number // 20 % 3] += 150
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path


def repeat_video(video: Path, out: Path, times: int) -> Path:
    """The same pictures over and over again, without coding them anew.

    The frames of an MPEG-TS are counted by decoding them.
    """
    with av.open(str(video)) as source, av.open(str(out), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        step = packets[1].pts - packets[0].pts
        for turn in range(times):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.pts = packet.pts + turn * step * len(packets)
                copy.dts = copy.pts
                copy.time_base, copy.stream = packet.time_base, stream
                copy.is_keyframe = packet.is_keyframe
                file.mux(copy)
    return out


@dataclass(frozen=True)
class Program:
    """`kinema serve` as a process."""

    process: subprocess.Popen[str]
    url: str

    @property
    def http(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=120)


def wait_until(condition: Callable[[], bool], *, most_s: float = 20.0) -> None:
    """Fails when it does not come true in time."""
    until = time.monotonic() + most_s
    while not condition():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """All processes below one."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children(child)]
    return found
