"""Decoder processes: a fixed number, reused from job to job, killed and replaced when they fail."""

import math
import queue
import signal
import socket
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from kinema.decoders import wire
from kinema.decoders.jobs import DecoderCaps, FailureName, Job, facts_of
from kinema.decoders.parent import DecoderParent
from kinema.errors import KinemaError
from kinema.system.closing import Closing

# One message holds at most this: a clip of 64 frames of 320 x 320 pixels in ten crops.
_MESSAGE_BYTES = 512 << 20


class DecoderSettings(BaseModel):
    """How many decoder processes there are, and what each may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(default=2, ge=1, description="Processes.")
    memory_bytes: int = Field(
        default=2 << 30, ge=64 << 20, description="Memory of one process on top of its start."
    )
    cpu_s: int = Field(default=30, ge=1, description="Processor time from one clip to the next.")
    silence_s: float = Field(default=30.0, gt=0, description="Wall time from one clip to the next.")
    jobs: int = Field(default=200, ge=1, description="Jobs after which a process is replaced.")


class DecodingError(KinemaError, OSError):
    """A file gave no frames; `reason` says why in one word, the message in a sentence."""

    def __init__(self, reason: FailureName, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class _Worker:
    pid: int
    channel: socket.socket
    done: int = 0
    ended: bool = False


class DecoderPool(Closing):
    """Hands jobs to decoder processes.

    May be used from as many threads as there are workers; others wait for a free one.

    Args:
        settings: See `DecoderSettings`.
        parent: Forks the processes.
        on_end: Called with the reason whenever a process ends before the pool does.
    """

    def __init__(
        self,
        settings: DecoderSettings,
        parent: DecoderParent,
        *,
        on_end: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self._on_end = on_end
        self._parent = parent
        self._alive: set[int] = set()
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(settings.workers):
            self._free.put(None)

    def start(self) -> None:
        """Starts the first process, which shows that decoding works here."""
        worker = self._free.get()
        self._free.put(worker or self._forked())

    def close(self) -> None:
        """Kills all processes, also those at work, whose jobs fail."""
        with suppress(queue.Empty):
            while True:
                idle = self._free.get_nowait()
                if idle is not None:
                    idle.channel.close()
        for pid in tuple(self._alive):
            self._parent.end(pid)

    def answers(
        self, job: Job, data: bytes | None = None, *, most_s: float = math.inf
    ) -> Generator[wire.Message, None, None]:
        """Does a job in a process of its own; yields what comes, see the job.

        A generator that is closed early, or fails, costs its process.

        Args:
            job: What to do.
            data: The bytes of an image.
            most_s: Time for the whole job.

        Raises:
            DecodingError: no frames; the message does not name a path of this machine.
        """
        worker, end = self._free.get(), "abandoned"
        until_s = time.monotonic() + most_s
        try:
            worker = self._asked(worker, job, data)
            while not (message := self._next(worker, until_s)).facts.get("end"):
                yield message
            reason = message.facts.get("failure")
            end = "worn" if worker.done >= self.settings.jobs else ""
            if reason == "decoding_needs_memory":
                end = reason
            if reason is not None:
                raise DecodingError(reason, message.facts["message"] or self._words(reason))
        finally:
            if worker is not None and end:
                self._end(worker, end)
            self._free.put(None if worker is None or worker.ended else worker)

    def _forked(self) -> _Worker:
        caps = DecoderCaps(memory_bytes=self.settings.memory_bytes, cpu_s=self.settings.cpu_s)
        try:
            pid, channel = self._parent.fork(caps)
        except OSError as error:
            raise DecodingError("decoder_lost", f"{error} Try again.") from error
        self._alive.add(pid)
        return _Worker(pid, channel)

    def _asked(self, worker: _Worker | None, job: Job, data: bytes | None) -> _Worker:
        """A worker that has the job; one that died while it was idle is replaced."""
        arrays: list[NDArray[Any]] = []
        if data is not None:
            arrays.append(np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8))
        for known in (worker, None):
            ready = known or self._forked()
            try:
                ready.channel.settimeout(self.settings.silence_s)
                wire.send(ready.channel, facts_of(job), arrays)
            except OSError:
                self._end(ready, "decoder_lost")
                continue
            ready.done += 1
            return ready
        raise DecodingError("decoder_lost", self._words("decoder_lost"))

    def _next(self, worker: _Worker, until_s: float) -> wire.Message:
        reason: FailureName = "decoder_crashed"
        left_s = min(self.settings.silence_s, until_s - time.monotonic())
        try:
            worker.channel.settimeout(max(left_s, 0.001))
            return wire.receive(worker.channel, most_bytes=_MESSAGE_BYTES)
        except TimeoutError:
            reason = "decoding_takes_long"
        except (EOFError, OSError):
            code = self._parent.end(worker.pid)
            if code == -signal.SIGXCPU:
                reason = "decoding_takes_long"
            elif code in (None, -signal.SIGKILL):
                reason = "decoder_lost"
        except wire.WireError:
            pass
        self._end(worker, reason)
        raise DecodingError(reason, self._words(reason))

    def _end(self, worker: _Worker, reason: str) -> None:
        if not worker.ended:
            worker.ended = True
            worker.channel.close()
            self._parent.end(worker.pid)
            self._alive.discard(worker.pid)
            self._on_end(reason)

    def _words(self, reason: FailureName) -> str:
        allowed = self.settings
        return {
            "decoding_takes_long": "Decoding it takes more than "
            f"{allowed.cpu_s} s of processor time or {allowed.silence_s:g} s.",
            "decoding_needs_memory": "Decoding it needs more than "
            f"{allowed.memory_bytes / 2**20:.0f} MiB of memory.",
            "decoder_lost": "Its decoder was ended from outside, by the system for want of memory "
            "or when the server stopped.",
        }.get(reason, "The decoder crashed on it.")
