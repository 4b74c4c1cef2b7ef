"""Timeline jobs: long work that a client starts with one request and fetches with another."""

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

from kinema.decoders import wire
from kinema.decoders.jobs import TimelineJob
from kinema.decoders.pool import DecoderPool, DecodingError
from kinema.errors import KinemaError
from kinema.report.timeline import timeline_document
from kinema.serve.limits import JobSettings, RefusedError, refusal_of_system
from kinema.serve.schema import ErrorAnswer, JobAnswer, TimelineAnswer
from kinema.serve.service import ServedModel, Service, refusal_of
from kinema.serve.uploads import Video, forget
from kinema.timeline import SegmentRule, TimelineSettings, timeline
from kinema.timeline.grid import Grid
from kinema.values import Preprocessing

_log = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "failed", "cancelled"]


class _CancelledError(Exception):
    """The client cancelled the job, or the server stops."""


@dataclass(eq=False)
class Job:
    """One timeline; its fields change in the event loop only.

    The result is kept as JSON text: as objects, the result of a long video takes ten times the
    memory.
    """

    model: ServedModel
    video: Video
    settings: TimelineSettings
    rule: SegmentRule
    top: int
    # It cannot be guessed, because it is all that fetching a result takes.
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
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
        """True if its state is final."""
        return self.state in ("done", "failed", "cancelled")

    def answer(self) -> str:
        """Returns a `JobAnswer` as JSON."""
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

    def notify(self) -> None:
        """Wakes up all followers."""
        self.changed.set()
        self.changed = asyncio.Event()


class JobBook:
    """Timeline jobs of a service, with decoders of their own: long videos delay no short ones."""

    def __init__(self, service: Service, settings: JobSettings | None = None) -> None:
        self._settings = settings or JobSettings()
        self._limits = service.limits
        self._metrics = service.metrics
        own = self._settings
        patient = {"workers": own.running, "cpu_s": own.cpu_s, "silence_s": own.decode_s}
        self._decoders = DecoderPool(
            service.decoders.settings.model_copy(update=patient),
            service.decoder_parent,
            on_end=service.count_decoder_end,
        )
        self._threads = ThreadPoolExecutor(own.running, thread_name_prefix="timeline")
        self._jobs: dict[str, Job] = {}

    @property
    def unfinished(self) -> list[Job]:
        """Jobs that wait or run."""
        return [job for job in self._jobs.values() if not job.has_ended]

    def unfetched(self, since_s: float) -> list[Job]:
        """Returns jobs that ended after `since_s` (`time.monotonic`) and were not fetched since."""
        jobs = self._jobs.values()
        return [job for job in jobs if job.ended_s >= since_s and not job.was_fetched]

    def check_room(self) -> None:
        """Raises a 503 if too many jobs wait already."""
        most = self._settings.running + self._settings.waiting
        if len(self.unfinished) >= most:
            text = f"{self._settings.waiting} timelines wait already, the limit. Try again."
            raise RefusedError(503, "too_many_timelines", text)

    def add(self, job: Job) -> None:
        """Queues a job, which deletes its upload when it ends.

        Raises:
            RefusedError: other jobs took the last place during the upload.
        """
        self._forget_old()
        self.check_room()
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._run(job), name=f"timeline {job.id}")

    def get(self, name: str) -> Job:
        """Finds a job by its id.

        Raises:
            RefusedError: it does not exist, or no longer.
        """
        self._forget_old()
        if name not in self._jobs:
            quoted = repr(name if len(name) <= 40 else name[:40] + "...")
            kept = f"Finished ones are kept for {self._settings.kept_s:g} s."
            raise RefusedError(404, "no_such_job", f"There is no timeline {quoted}. {kept}")
        return self._jobs[name]

    def cancel(self, job: Job) -> None:
        """Cancels a job, or removes one that has ended."""
        if job.has_ended:
            del self._jobs[job.id]
        job.stop.set()
        if job.state == "waiting" and job.task is not None:
            job.task.cancel()

    async def follow(self, job: Job) -> AsyncIterator[str]:
        """Yields the state of a job as JSON, now and after every change."""
        while not job.has_ended:
            changed = job.changed
            yield job.answer()
            await changed.wait()
        yield job.answer()

    async def close(self) -> None:
        """Cancels unfinished jobs and ends processes and threads."""
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
            job.result = await loop.run_in_executor(self._threads, self._compute, job, loop)
        except (_CancelledError, asyncio.CancelledError):
            state = "cancelled"
        except Exception as error:  # any fault of decoder or network; the job answers with it
            state, job.error = "failed", _answer_of(error, job.video)
        finally:
            await loop.run_in_executor(None, forget, job.video)
            job.state, job.ended_s = state, time.monotonic()
            self._metrics.jobs.labels(job.state).inc()
            job.notify()

    def _compute(self, job: Job, loop: asyncio.AbstractEventLoop) -> str:
        """Computes a `TimelineAnswer` as JSON, in a thread; decoding is in another process."""

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
        document["error"] = found.error and job.video.with_name(found.error)
        return TimelineAnswer.model_validate(document).model_dump_json()

    def _count(self, job: Job, done: int, total: int) -> None:
        if not job.has_ended:  # a cancelled job may still run to its next window
            job.state, job.done, job.total = "running", done, total
            job.notify()

    @contextmanager
    def _opened(
        self, path: str | Path, how: Preprocessing, settings: TimelineSettings
    ) -> Iterator[tuple[Grid, "_RemoteFrames"]]:
        """Opens a video in a decoder process; gives its grid and frames."""
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
            numbers_G, starts_s, ends_s, shown_s = first.arrays
            grid = Grid(numbers_G, starts_s, ends_s, shown_s, first.facts["hop"])
            yield grid, _RemoteFrames(answers)

    def _forget_old(self) -> None:
        ended = [job for job in self._jobs.values() if job.has_ended]
        ended.sort(key=lambda job: job.ended_s)
        oldest = time.monotonic() - self._settings.kept_s
        surplus = len(ended) - self._settings.kept
        for place, job in enumerate(ended):
            if place < surplus or job.ended_s < oldest:
                del self._jobs[job.id]


class _RemoteFrames:
    """Frames like those of `kinema.timeline.reading.GridFrames`, from another process."""

    def __init__(self, answers: Iterator[wire.Message]) -> None:
        self.count = 0
        self.error: str | None = None
        self._answers = answers

    def __iter__(self) -> Iterator[torch.Tensor]:
        for message in self._answers:
            for frames_NCHW in message.arrays:
                yield from torch.from_numpy(frames_NCHW)
            self.count, self.error = message.facts["count"], message.facts.get("error")


def _answer_of(error: Exception, video: Video) -> ErrorAnswer:
    if isinstance(error, DecodingError):
        refusal = refusal_of(error, video)
        code, message = refusal.code, str(refusal)
    elif isinstance(error, OSError) and (refused := refusal_of_system(error)):
        code, message = refused.code, str(refused)
    elif isinstance(error, KinemaError):
        code, message = "timeline", video.with_name(str(error))
    else:  # the client learns that it failed, the log why
        _log.error("A timeline failed.", exc_info=error)
        code, message = "internal", f"{type(error).__name__} in the server."
    return ErrorAnswer(error=code, message=message, file=video.name)
