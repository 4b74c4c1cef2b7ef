"""Dynamic batching: clips of different requests share forward passes.

Letters: B clips of a batch, V clips of a request, T frames, H, W, K classes.
"""

import asyncio
import time
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

import torch

from kinema.data.transforms import normalize
from kinema.recognizer import Recognizer
from kinema.serve.limits import BatchSettings
from kinema.serve.metrics import Metrics


@dataclass
class _Waiting:
    clip_TCHW: torch.Tensor
    request: int
    since_s: float
    scores_K: "asyncio.Future[torch.Tensor]"


class Batcher:
    """Collects clips and scores them in batches; clips that arrive meanwhile form the next one.

    Its task only lives while clips wait, so that a batcher that nobody uses any more is gone.
    """

    def __init__(
        self,
        name: str,
        recognizer: Recognizer,
        settings: BatchSettings,
        computing: Executor,
        metrics: Metrics,
    ) -> None:
        self._recognizer = recognizer
        self._settings = settings
        self._computing = computing
        self._batch_clips = metrics.batch_clips.labels(name)
        self._batch_requests = metrics.batch_requests.labels(name)
        self._seconds = metrics.compute_seconds.labels(name)
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._requests = 0
        self._task: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Drops the clips that wait; called when no request does any more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def score(self, clips_VTCHW: torch.Tensor) -> torch.Tensor:
        """Scores clips: (V, T, 3, h, w) uint8 -> (V, K) before softmax.

        If the caller is cancelled, its clips leave the queue.
        """
        loop = asyncio.get_running_loop()
        self._requests += 1
        waiting = [
            _Waiting(clip_TCHW, self._requests, loop.time(), loop.create_future())
            for clip_TCHW in clips_VTCHW
        ]
        for item in waiting:
            self._queue.put_nowait(item)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="batcher")
        try:
            return torch.stack(await asyncio.gather(*(item.scores_K for item in waiting)))
        finally:
            for item in waiting:
                item.scores_K.cancel()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._queue.empty():
            # Requests that timed out or were cancelled while they waited cost no forward pass.
            batch = [item for item in await self._collect() if not item.scores_K.done()]
            if not batch:
                continue
            clips = [item.clip_TCHW for item in batch]
            self._batch_clips.observe(len(batch))
            self._batch_requests.observe(len({item.request for item in batch}))
            try:
                scores_BK = await loop.run_in_executor(self._computing, self._scores, clips)
            except Exception as error:  # any fault of the network; its requests answer with it
                for item in batch:
                    if not item.scores_K.done():
                        item.scores_K.set_exception(error)
                continue
            for item, scores_K in zip(batch, scores_BK, strict=True):
                if not item.scores_K.done():
                    item.scores_K.set_result(scores_K)

    async def _collect(self) -> list[_Waiting]:
        """Takes a clip, then waits for others until the batch is full or the first one is due."""
        batch = [await self._queue.get()]
        # The delay counts from the arrival of the first clip: if it waited during the previous
        # forward pass, the batch starts at once with whatever is in the queue.
        with suppress(TimeoutError):
            async with asyncio.timeout_at(batch[0].since_s + self._settings.delay_s):
                while len(batch) < self._settings.clips:
                    batch.append(await self._queue.get())
        return batch

    def _scores(self, clips: list[torch.Tensor]) -> torch.Tensor:
        how, began = self._recognizer.preprocessing, time.perf_counter()
        with torch.inference_mode():
            clips_BTCHW = torch.stack(clips)
            batch = normalize(clips_BTCHW.to(self._recognizer.device), how.mean, how.std)
            scores_BK = self._recognizer.score(batch).float().cpu()
        self._seconds.observe(time.perf_counter() - began)
        return scores_BK
