"""Live streams: one WebSocket is one stream, with the network's memory of its past frames.

The client announces the format, then sends frames; every frame gets one answer, in order.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

import numpy as np
from fastapi import WebSocket, WebSocketDisconnect
from numpy.typing import NDArray
from pydantic import ValidationError

from kinema.errors import KinemaError
from kinema.live.live_source import LiveFrame
from kinema.live.result import FrameResult
from kinema.live.smoothing import Hysteresis, WindowMean
from kinema.live.stream import FrameRecognizer, StreamSettings
from kinema.serve.limits import RefusedError, key_of, refusal_of_system
from kinema.serve.schema import StreamStart, describe_error
from kinema.serve.service import ServedModel, Service

# Time for the first message of a client.
_FIRST_S = 10.0

# Close codes of RFC 6455: going away, policy violation, try again later.
_GONE, _POLICY, _LATER = 1001, 1008, 1013

Value = TypeVar("Value")


async def live(socket: WebSocket, service: Service) -> None:
    """Serves one stream until the client ends it or falls silent, or the server stops."""
    try:
        service.access.check_origin(socket.headers)
    except RefusedError as refusal:
        service.metrics.refusals.labels(refusal.code).inc()
        await socket.close(_POLICY)  # before the handshake: HTTP 403
        return
    await socket.accept()
    try:
        await _Stream(socket, service).run()
    except WebSocketDisconnect:
        return
    except (RefusedError, OSError) as error:
        reason = error if isinstance(error, RefusedError) else refusal_of_system(error)
        if reason is None:
            raise
        service.metrics.refusals.labels(reason.code).inc()
        await _say(socket, reason)
        await socket.close(_LATER if reason.status in (429, 503) else _POLICY)


class _EndError(Exception):
    """The stream ended without an error; the message is the close reason."""


class _Stream:
    def __init__(self, socket: WebSocket, service: Service) -> None:
        self._socket = socket
        self._service = service
        self._frames = 0
        self._began_s = 0.0

    async def run(self) -> None:
        service = self._service
        try:
            service.rates.check(self._socket.client and self._socket.client.host)
            start = _started(await self._next(_FIRST_S))
            service.access.check_key(key_of(self._socket.headers) or start.api_key)
            model = service.model(start.model)
            recognize = _recognizer(model, start)
            with service.streams, service.metrics.streams.track_inprogress():
                # Larger frames gain nothing: the preprocessing resizes their short side to this.
                size_px = model.recognizer.preprocessing.short_side_px
                ready = {"type": "ready", "model": model.name, "size_px": size_px}
                await self._socket.send_json(ready)
                while True:
                    data = await self._next(service.limits.stream_idle_s)
                    await self._answer(data, start, model, recognize)
        except _EndError as end:
            await self._socket.close(_GONE, str(end))

    async def _next(self, most_s: float) -> str | bytes:
        """Waits for the next message of the client.

        Raises:
            _EndError: no message came in time, or the server stops.
        """
        message = await self._before_stop(self._socket.receive(), most_s)
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        data: str | bytes = message.get("bytes") or message.get("text") or b""
        return data

    async def _before_stop(self, coming: Awaitable[Value], most_s: float) -> Value:
        """Waits for a result, for `most_s` seconds or until the server stops."""
        waiting = asyncio.ensure_future(coming)
        stop = asyncio.ensure_future(self._service.stopping.wait())
        try:
            await asyncio.wait({waiting, stop}, timeout=most_s, return_when="FIRST_COMPLETED")
            if waiting.done() and not stop.done():
                return waiting.result()
            words = "the server stops" if stop.done() else f"nothing came for {most_s:g} s"
            raise _EndError(words)
        finally:
            waiting.cancel()
            stop.cancel()

    async def _answer(
        self, data: str | bytes, start: StreamStart, model: ServedModel, recognize: FrameRecognizer
    ) -> None:
        came_s, number = time.perf_counter(), self._frames
        self._began_s = self._began_s if number else came_s
        self._frames += 1
        try:
            picture = await self._picture(data, start, number)
            height, width, _ = picture.shape
            how = model.recognizer.preprocessing
            self._service.limits.check_frame(width, height, how.short_side_px)
        except RefusedError as refusal:  # costs this frame, not the stream
            await _say(self._socket, refusal, frame=number)
            return
        frame = LiveFrame(number, came_s - self._began_s, picture)
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(
            self._service.stepping, lambda: recognize(frame, decoded_at_s=came_s)
        )
        self._service.metrics.stream_frames.labels(model.name).inc()
        self._service.metrics.stream_seconds.labels(model.name).observe(result.latency_ms / 1000)
        await self._socket.send_json(_document(result))

    async def _picture(
        self, data: str | bytes, start: StreamStart, number: int
    ) -> NDArray[np.uint8]:
        """Decodes a frame to (H, W, 3) uint8 RGB."""
        if isinstance(data, str):
            raise RefusedError(
                422, "no_frame", "After the first message every message is one frame."
            )
        if start.format == "image":
            return await self._service.picture(data, f"frame {number}")
        width, height = start.width or 0, start.height or 0
        if len(data) != 3 * width * height:
            raise RefusedError(
                422,
                "frame_size",
                f"A frame of {width} x {height} pixels has {3 * width * height} bytes, RGB; "
                f"{len(data)} came.",
            )
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)


def _started(message: str | bytes) -> StreamStart:
    if isinstance(message, bytes):
        raise RefusedError(422, "no_start", "The first message must be JSON text, such as {}.")
    try:
        start = StreamStart.model_validate_json(message)
    except ValidationError as error:
        first = error.errors()[0]
        raise RefusedError(422, "no_start", describe_error(first, first["loc"])) from error
    if start.format == "rgb24" and not (start.width and start.height):
        raise RefusedError(422, "no_start", "Frames of the format rgb24 need width and height.")
    return start


def _recognizer(model: ServedModel, start: StreamStart) -> FrameRecognizer:
    if model.step is None:
        raise RefusedError(
            422,
            "not_causal",
            f"The model {model.name!r} looks ahead and cannot follow a live stream; `live` "
            "in /v1/models marks the models that can.",
        )
    try:
        settings = StreamSettings(
            smoothing=WindowMean(start.smooth_frames),
            hysteresis=Hysteresis(start.enter, start.leave),
            top=start.top,
        )
    except KinemaError as error:
        raise RefusedError(422, "option", str(error)) from error
    return FrameRecognizer(model.recognizer, settings, step=model.step)


def _document(result: FrameResult) -> dict[str, Any]:
    return {
        "type": "result",
        "frame": result.frame,
        "time_s": round(result.time_s, 6),
        "top": [entry.to_dict() for entry in result.top],
        "shown": result.shown and result.shown.to_dict(),
        "changed": result.changed,
        "latency_ms": round(result.latency_ms, 3),
    }


async def _say(socket: WebSocket, refusal: RefusedError, *, frame: int | None = None) -> None:
    await socket.send_json(
        {"type": "error", "error": refusal.code, "message": str(refusal), "frame": frame}
    )
