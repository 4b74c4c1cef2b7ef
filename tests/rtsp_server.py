"""A small RTSP server on loopback: one endless H.264 video over TCP, which can be cut.

Knows OPTIONS, DESCRIBE, SETUP (interleaved), PLAY and TEARDOWN of RFC 2326, and packs H.264 into
RTP as RFC 6184 says: small units alone, large ones in fragments (FU-A).
"""

import base64
import re
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Self

import av
import numpy as np

RATE_HZ = 25
GOP = 5
_MOST_BYTES = 1200


def coded_frames(count: int, size: tuple[int, int] = (64, 48)) -> list[list[bytes]]:
    """The H.264 units of every frame of a video of noise; it can be repeated."""
    width, height = size
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate = RATE_HZ
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(GOP), "bf": "0"}
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (count, height, width, 3), dtype=np.uint8)
    frames = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in pictures]
    packets = [packet for frame in (*frames, None) for packet in encoder.encode(frame)]
    return [[unit for unit in re.split(b"\0\0\0?\1", bytes(p)) if unit] for p in packets]


class RtspServer:
    """Serves `rtsp://127.0.0.1:PORT/live` until it is closed."""

    def __init__(self) -> None:
        self.units = coded_frames(2 * GOP)
        self.silent = False  # connections stay, but no frame is sent
        self.clock_s = lambda frame: frame / RATE_HZ  # time that a frame carries
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []
        self.port = 0
        self.restore()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/live"

    def restore(self) -> None:
        """Listens, on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def cut(self) -> None:
        """Ends all connections and refuses new ones."""
        for end in (self._listener, *self._connections):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._connections.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target, end: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(end,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._connections.append(connection)
                self._start(self._answer, connection)

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError):
            reader = connection.makefile("rb")
            while request := self._request(reader):
                method, number = request
                connection.sendall(self._reply(method, number))
                if method == "PLAY":
                    self._start(self._play, connection)
                if method == "TEARDOWN":
                    return

    def _request(self, reader) -> tuple[str, str] | None:
        """Method and CSeq of the next request; what comes on the RTP channels is left out."""
        while (first := reader.read(1)) == b"$":
            reader.read(struct.unpack(">xH", reader.read(3))[0])
        if not first:
            return None
        lines = [(first + reader.readline()).decode()]
        while (line := reader.readline().decode()).strip():
            lines.append(line)
        number = next(x.split(":")[1].strip() for x in lines if x.lower().startswith("cseq"))
        return lines[0].split()[0], number

    def _reply(self, method: str, number: str) -> bytes:
        head, body = [f"RTSP/1.0 200 OK\r\nCSeq: {number}"], ""
        if method == "OPTIONS":
            head.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        if method == "DESCRIBE":
            body = self._description()
            head += ["Content-Type: application/sdp", f"Content-Base: {self.url}/"]
            head.append(f"Content-Length: {len(body)}")
        if method in ("SETUP", "PLAY"):
            head.append("Session: 1")
        if method == "SETUP":
            head.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        return ("\r\n".join(head) + "\r\n\r\n" + body).encode()

    def _description(self) -> str:
        parameters = [u for u in self.units[0] if u[0] & 31 in (7, 8)]
        sets = ",".join(base64.b64encode(unit).decode() for unit in parameters)
        lines = (
            *("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=test", "c=IN IP4 0.0.0.0", "t=0 0"),
            *("m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000"),
            f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}",
            "a=control:trackID=0",
        )
        return "\r\n".join(lines) + "\r\n"

    def _play(self, connection: socket.socket) -> None:
        sequence, frame, start = 0, 0, time.monotonic()
        with suppress(OSError):
            while connection.fileno() >= 0:
                time.sleep(max(0.0, start + frame / RATE_HZ - time.monotonic()))
                parts = [] if self.silent else self._payloads(frame)
                for place, part in enumerate(parts, start=1):
                    last = 0x80 if place == len(parts) else 0
                    ticks = round(90000 * self.clock_s(frame)) % 2**32
                    head = struct.pack(">BBHII", 0x80, 96 | last, sequence % 65536, ticks, 7)
                    connection.sendall(struct.pack(">cBH", b"$", 0, len(head + part)) + head + part)
                    sequence += 1
                frame += 1

    def _payloads(self, frame: int) -> list[bytes]:
        payloads = []
        for unit in self.units[frame % len(self.units)]:
            if len(unit) <= _MOST_BYTES:
                payloads.append(unit)
                continue
            pieces = [unit[i : i + _MOST_BYTES] for i in range(1, len(unit), _MOST_BYTES)]
            for place, piece in enumerate(pieces):
                ends = 0x80 * (place == 0) | 0x40 * (place == len(pieces) - 1)
                payloads.append(bytes([unit[0] & 0xE0 | 28, ends | unit[0] & 31]) + piece)
        return payloads
