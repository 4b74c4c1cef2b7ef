"""Timelines in the making: long work that a client asks for once and fetches later."""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from kinema.decoders import wire
from kinema.decoders.jobs import TimelineJob
from kinema.decoders.pool import DecoderPool, DecodingError
from kinema.errors import KinemaError
from kinema.report.timeline import timeline_document
from kinema.serve.limits import RefusedError, busy
from kinema.serve.schema import ErrorAnswer, JobAnswer, TimelineAnswer
from kinema.serve.service import ServedModel, Service, refusal_of
from kinema.serve.uploads import Video, forget
from kinema.timeline import SegmentRule, TimelineSettings, timeline
from kinema.timeline.grid import Grid
from kinema.values import Preprocessing

_log = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "failed", "cancelled"]


class JobSettings(BaseModel):
    """How many timelines there may be, and for how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    running: int = Field(default=1, ge=1, description="Timelines that are made at a time.")
    waiting: int = Field(default=8, ge=0, description="Timelines that wait.")
    kept: int = Field(default=20, ge=1, description="Finished timelines that can be fetched.")
    kept_s: float = Field(default=3600.0, gt=0, description="For how long.")
    decode_s: int = Field(
        default=600, ge=1, description="Time for the next 16 frames, or the index."
    )


class _CancelledError(Exception):
    """The client, or the end of the server, has cancelled the job."""


@dataclass(eq=False)
class Job:
    """One timeline; its fields are changed in the event loop only.

    The result is JSON: as objects, that of a long video takes ten times the memory.
    """

    id: str
    model: ServedModel
    video: Video
    is_upload: bool
    settings: TimelineSettings
    rule: SegmentRule
    top: int
    state: State = "waiting"
    done: int = 0
    total: int = 0
    result: str = "null"
    error: ErrorAnswer | None = None
    ended_s: float = 0.0
    was_fetched: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    task: "asyncio.Task[None] | None" = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing about it will change any more."""
        return self.state in ("done", "failed", "cancelled")

    def answer(self) -> str:
        """A `JobAnswer`, as JSON."""
        facts = JobAnswer(
            job=self.id,
            state=self.state,
            model=self.model.name,
            file=self.video.name,
            done=self.done,
            total=self.total,
            error=self.error,
        )
        return facts.model_dump_json(exclude={"result"})[:-1] + f',"result":{self.result}}}'

    def tell(self) -> None:
        """Wakes up those who follow it."""
        self.changed.set()
        self.changed = asyncio.Event()


class JobBook:
    """All timelines of a service, with decoders of their own: long videos hold up no short ones.

    Args:
        service: Limits and metrics.
        settings: See `JobSettings`.
    """

    def __init__(self, service: Service, settings: JobSettings | None = None) -> None:
        self._settings = settings or JobSettings()
        self._limits = service.limits
        self._metrics = service.metrics
        patient = {"cpu_s": self._settings.decode_s, "silence_s": self._settings.decode_s}
        self._decoders = DecoderPool(
            service.decoders.settings.model_copy(
                update={"workers": self._settings.running, **patient}
            ),
            service.decoder_parent,
            on_end=service.count_decoder_end,
        )
        self._threads = ThreadPoolExecutor(self._settings.running, thread_name_prefix="timeline")
        self._jobs: dict[str, Job] = {}

    @property
    def unfinished(self) -> list[Job]:
        """Jobs that wait or run."""
        return [job for job in self._jobs.values() if not job.has_ended]

    def unfetched(self, since_s: float) -> list[Job]:
        """Jobs that have ended since a moment of `time.monotonic` and were not asked for again."""
        jobs = self._jobs.values()
        return [job for job in jobs if job.ended_s >= since_s and not job.was_fetched]

    def check_place(self) -> None:
        """Raises a 503 when too many jobs wait already."""
        most = self._settings.running + self._settings.waiting
        if len(self.unfinished) >= most:
            raise busy(
                "too_many_timelines",
                f"{self._settings.waiting} timelines wait already, the limit. Try again.",
            )

    def add(self, job: Job) -> None:
        """Takes a job; the upload is the job's from now on.

        Raises:
            RefusedError: other jobs have come while this one's video was sent.
        """
        self._forget_old()
        self.check_place()
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._run(job), name=f"timeline {job.id}")

    def get(self, name: str) -> Job:
        """The job of an id.

        Raises:
            RefusedError: there is none, or not any more.
        """
        self._forget_old()
        if name not in self._jobs:
            raise RefusedError(
                404,
                "no_such_job",
                f"There is no timeline {shortened(name)}. Finished ones are kept for "
                f"{self._settings.kept_s:g} s.",
            )
        return self._jobs[name]

    def cancel(self, job: Job) -> None:
        """Ends a job early; one that has ended is forgotten."""
        if job.has_ended:
            del self._jobs[job.id]
        job.stop.set()
        if job.state == "waiting" and job.task is not None:
            job.task.cancel()

    async def follow(self, job: Job) -> AsyncIterator[str]:
        """The answer about a job, whenever it changes."""
        while not job.has_ended:
            changed = job.changed
            yield job.answer()
            await changed.wait()
        yield job.answer()

    async def close(self) -> None:
        """Cancels what is left and ends processes and threads."""
        tasks = [job.task for job in self.unfinished if job.task is not None]
        for job in self.unfinished:
            self.cancel(job)
        self._decoders.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown()

    async def _run(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        state: State = "done"
        try:
            job.result = await loop.run_in_executor(self._threads, self._made, job, loop)
        except (_CancelledError, asyncio.CancelledError):
            state = "cancelled"
        except DecodingError as error:
            state, refusal = "failed", refusal_of(error, job.video)
            job.error = _error(refusal.code, str(refusal), job.video)
        except KinemaError as error:
            state, job.error = "failed", _error("timeline", job.video.tell(str(error)), job.video)
        except Exception as error:  # the client gets to know that it failed, the log why
            _log.exception("A timeline failed.")
            state = "failed"
            job.error = _error("internal", f"{type(error).__name__} in the server.", job.video)
        finally:
            if job.is_upload:
                await loop.run_in_executor(None, forget, job.video)
            job.state, job.ended_s = state, time.monotonic()
            self._metrics.jobs.labels(job.state).inc()
            job.tell()

    def _made(self, job: Job, loop: asyncio.AbstractEventLoop) -> str:
        """A `TimelineAnswer` as JSON; in a thread: decodes in another process and scores here."""

        def progress(done: int, total: int) -> None:
            if job.stop.is_set():
                raise _CancelledError
            loop.call_soon_threadsafe(self._count, job, done, total)

        if job.stop.is_set():
            raise _CancelledError
        loop.call_soon_threadsafe(self._count, job, 0, 0)
        found = timeline(
            job.model.recognizer,
            job.video.path,
            job.settings,
            rule=job.rule,
            progress=progress,
            reading=self._opened,
        )
        document = timeline_document(found, top=job.top)
        document["path"] = job.video.name
        document["error"] = found.error and job.video.tell(found.error)
        return TimelineAnswer.model_validate(document).model_dump_json()

    def _count(self, job: Job, done: int, total: int) -> None:
        if not job.has_ended:  # one that was cancelled may still run to its next window
            job.state, job.done, job.total = "running", done, total
            job.tell()

    @contextmanager
    def _opened(
        self, path: str | Path, how: Preprocessing, settings: TimelineSettings
    ) -> Iterator[tuple[Grid, "_RemoteFrames"]]:
        """The grid of a video and its frames, read in a process of its own."""
        job = TimelineJob(
            path=str(path),
            preprocessing=how,
            window_s=settings.window_s,
            stride_s=settings.stride_s,
            windows=self._limits.timeline_windows,
            limits=self._limits.timeline_video,
        )
        with closing(self._decoders.answers(job)) as answers:
            first = next(answers)
            numbers_G, edges_s, shown_s = first.arrays
            yield Grid(numbers_G, edges_s, shown_s, first.facts["hop"]), _RemoteFrames(answers)

    def _forget_old(self) -> None:
        ended = [job for job in self._jobs.values() if job.has_ended]
        ended.sort(key=lambda job: job.ended_s)
        oldest = time.monotonic() - self._settings.kept_s
        surplus = len(ended) - self._settings.kept
        for place, job in enumerate(ended):
            if place < surplus or job.ended_s < oldest:
                del self._jobs[job.id]


class _RemoteFrames:
    """As `kinema.timeline.reading.GridFrames`, from another process."""

    def __init__(self, answers: Iterator[wire.Message]) -> None:
        self.count = 0
        self.error: str | None = None
        self._answers = answers

    def __iter__(self) -> Iterator[torch.Tensor]:
        for message in self._answers:
            for frames_NCHW in message.arrays:
                yield from torch.from_numpy(frames_NCHW)
            self.count, self.error = message.facts["count"], message.facts.get("error")


def new_id() -> str:
    """A name that cannot be guessed: who knows it may fetch the result."""
    return secrets.token_urlsafe(16)


def shortened(name: str) -> str:
    """A client's word in a message."""
    return repr(name if len(name) <= 40 else name[:40] + "...")


def _error(code: str, message: str, video: Video) -> ErrorAnswer:
    return ErrorAnswer(error=code, message=message, file=video.name)
