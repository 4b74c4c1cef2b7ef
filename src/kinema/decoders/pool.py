"""Decoder processes: a fixed number, reused from job to job, killed and replaced when they fail."""

import math
import queue
import signal
import socket
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from kinema.decoders import wire
from kinema.decoders.jobs import ENDING, DecoderCaps, FailureName, Job, facts_of
from kinema.decoders.parent import DecoderParent
from kinema.errors import ClusterError, KinemaError
from kinema.system.closing import Closing

# Upper bound of one message: a clip of 64 frames of 320 x 320 pixels in ten crops.
_MESSAGE_BYTES = 512 << 20


class DecoderSettings(BaseModel):
    """Number of decoder processes, and resources of each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(default=2, ge=1, description="Decoder processes.")
    memory_bytes: int = Field(
        default=2 << 30,
        ge=1 << 20,
        description="Memory of one process on top of what it has when it starts.",
    )
    cpu_s: int | None = Field(
        default=30, ge=1, description="CPU seconds a decoder may spend per video."
    )
    silence_s: float = Field(default=30.0, gt=0, description="Seconds from one clip to the next.")
    jobs: int = Field(default=200, ge=1, description="Jobs after which a process is replaced.")


class DecodingError(KinemaError, OSError):
    """A file gave no frames; `reason` is a code, the message a sentence."""

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
        # None stands for a process that is forked when it is needed. Last in, first out, so that
        # under a light load few processes are forked.
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(settings.workers):
            self._free.put(None)

    def start(self) -> None:
        """Makes sure that the next job finds a process.

        Raises:
            ClusterError: no decoder can be started on this machine.
        """
        worker = self._free.get()
        try:
            worker = worker or self._fork()
        finally:
            self._free.put(worker)

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
        """Runs a job in a process of its own; yields the messages described at the job.

        If the generator is closed early, or fails, its process is killed.

        Args:
            job: What to decode.
            data: The bytes of an image.
            most_s: Longest time for the whole job.

        Raises:
            DecodingError: there are no frames. The message holds at most the path of the job.
        """
        until_s = time.monotonic() + most_s
        # Until the last message has arrived, any way out of this block leaves a process in the
        # middle of a job, which is therefore killed.
        worker, end = self._free.get(), "abandoned"
        try:
            worker = self._assign(worker, job, data)
            while not (message := self._next(worker, until_s)).facts.get("end"):
                yield message
            reason = message.facts.get("failure")
            end = "worn" if worker.done >= self.settings.jobs else ""
            if reason in ENDING:
                end = reason
            if reason is not None:
                raise DecodingError(reason, message.facts["message"] or self._explain(reason))
        finally:
            if worker is not None and end:
                self._end(worker, end)
            self._free.put(None if worker is None or worker.ended else worker)

    def _fork(self) -> _Worker:
        allowed = self.settings
        pid, channel = self._parent.fork(DecoderCaps(allowed.memory_bytes, allowed.cpu_s))
        self._alive.add(pid)
        return _Worker(pid, channel)

    def _assign(self, worker: _Worker | None, job: Job, data: bytes | None) -> _Worker:
        """Sends a job to a worker; one that died while it was idle is replaced."""
        arrays = [] if data is None else [np.frombuffer(data, np.uint8)]
        for known in (worker, None):
            try:
                ready = known or self._fork()
            except ClusterError as error:
                raise DecodingError("decoder_lost", f"{error} Try again.") from error
            try:
                ready.channel.settimeout(self.settings.silence_s)
                wire.send(ready.channel, facts_of(job), arrays)
            except OSError:
                self._end(ready, "decoder_lost")
                continue
            ready.done += 1
            return ready
        raise DecodingError("decoder_lost", self._explain("decoder_lost"))

    def _next(self, worker: _Worker, until_s: float) -> wire.Message:
        """Waits for the next message; a worker that sends none in time, or nonsense, is ended."""
        code = None
        left_s = min(self.settings.silence_s, until_s - time.monotonic())
        try:
            worker.channel.settimeout(max(left_s, 0.001))
            return wire.receive(worker.channel, most_bytes=_MESSAGE_BYTES)
        except TimeoutError:
            reason: FailureName = "decoding_takes_long"
        except (EOFError, OSError):
            # The process is gone. Its exit code separates our limit on CPU time (SIGXCPU) and
            # kills from outside (SIGKILL) from crashes, which are the file's fault.
            code = self._parent.end(worker.pid)
            reason = _REASON_OF_CODE.get(code, "decoder_crashed")
        except wire.WireError:
            reason = "decoder_crashed"  # a file may have taken it over
        self._end(worker, reason)
        raise DecodingError(reason, self._explain(reason, code))

    def _end(self, worker: _Worker, reason: str) -> None:
        if not worker.ended:
            worker.ended = True
            worker.channel.close()
            self._parent.end(worker.pid)
            self._alive.discard(worker.pid)
            self._on_end(reason)

    def _explain(self, reason: FailureName, code: int | None = None) -> str:
        """Returns a sentence about the end of a process."""
        allowed = self.settings
        if reason == "decoding_takes_long":
            cpu = "" if allowed.cpu_s is None else f"{allowed.cpu_s} s of CPU time or "
            return f"Decoding takes more than {cpu}{allowed.silence_s:g} s."
        if reason == "decoding_needs_memory":
            return f"Decoding needs more than {allowed.memory_bytes / 2**20:.0f} MiB of memory."
        if reason == "decoder_lost":
            return (
                "The decoder was killed from outside: by the system for want of memory, or "
                "because the program stops."
            )
        if code is None:
            return "The decoder crashed."
        if code < 0:
            return f"The decoder was ended by {signal.Signals(-code).name}."
        return f"The decoder ended with exit code {code}."


_REASON_OF_CODE: dict[int | None, FailureName] = {
    -signal.SIGXCPU: "decoding_takes_long",
    -signal.SIGKILL: "decoder_lost",
    None: "decoder_lost",
}
