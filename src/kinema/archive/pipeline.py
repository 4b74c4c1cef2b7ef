"""Ray Data pipeline: paths to decoders, views to workers, rows to the caller."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from kinema.archive.arrow import pa
from kinema.archive.cluster import Pools
from kinema.archive.decode_stage import PENDING_SCHEMA, DecodeStage
from kinema.archive.label_stage import BESIDE, LabelStage, fastest_form
from kinema.archive.settings import Work
from kinema.errors import ClusterError, OptionError
from kinema.inference.runtime import Form

# Size of a block of views: large enough to be worth a message, small beside the object store.
_BLOCK_BYTES, _BLOCK_VIDEOS, _STORE_SHARE = 32 * 2**20, 16, 16
# Seconds without progress, on top of those that a block of hanging videos takes, after which the
# job fails. Ray would otherwise wait forever for the work of a lost GPU that never comes back.
_PATIENCE_S = 300
# Videos of one decoding task; a lost process repeats its whole task.
_TASK_VIDEOS = 256
# Videos whose views the object store must hold at least.
_STORE_BLOCKS = 4


class Pipeline:
    """Decoders and workers of one job.

    Backpressure bounds the views between them: Ray Data pauses decoding when its part of the object
    store is full, and the workers when the caller does not take rows. A killed process is replaced
    and its task is repeated.

    Attributes:
        began: Time at which the first videos reached the network, in seconds of the epoch.

    Raises:
        OptionError: the object store is too small for the clips of a video.
    """

    def __init__(self, ray: Any, pools: Pools, work: Work) -> None:
        if pools.store_bytes < _STORE_BLOCKS * work.video_bytes:
            raise OptionError(
                f"The clips of one video have {work.video_bytes >> 20} MB. The object store must "
                f"hold {_STORE_BLOCKS} times that and has {pools.store_bytes >> 20} MB: see "
                "--store-mb."
            )
        self._ray = ray
        self._pools = pools
        self.work = work
        self.began = math.inf

    def fastest_form(self, todo: Any) -> Form:
        """Measures the fastest form of the network, in a worker."""
        measure = self._ray.remote(fastest_form).options(**self._pools.worker_resources)
        with self._reporting_failures():
            form: Form = self._ray.get(measure.remote(self.work, todo.slice(0, 32).to_pylist()))
        return form

    def rows(self, todo: Any) -> Iterator[Any]:
        """Yields tables of rows as they become ready, every video once.

        Args:
            todo: Arrow array of paths.

        Raises:
            ClusterError: the job failed, and not because of a video.
        """
        # Ray repeats the whole task of a killed process, so rows may arrive twice.
        arrived = np.zeros(len(todo), bool)
        with self._reporting_failures():
            for table in self._labeled(todo).iter_batches(batch_size=None, batch_format="pyarrow"):
                numbers = table["number"].to_numpy()
                new = ~arrived[numbers]
                arrived[numbers] = True
                self.began = min(self.began, *table["began"].to_pylist())
                rows = table.filter(pa.array(new))
                yield rows.drop_columns([field.name for field in BESIDE])

    def _labeled(self, todo: Any) -> Any:
        """Builds the lazy data set."""
        data, pools = self._ray.data, self._pools
        # A block is bounded by its bytes, its videos, and its share of the object store.
        most = min(_BLOCK_BYTES, pools.store_bytes // _STORE_SHARE)
        videos = max(1, min(_BLOCK_VIDEOS, most // self.work.video_bytes))
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # Every video of a block may use up all its attempts before the block is finished.
        context.execution_no_progress_timeout_s = _PATIENCE_S + videos * self.work.decode_s
        # One block holds the views of one batch.
        context.target_max_block_size = videos * self.work.video_bytes
        batches = {"batch_size": videos, "batch_format": "pyarrow"}
        busy = -(-len(todo) // videos)  # batches; further processes would never get one
        return (
            data.from_arrow(self._tasks(todo))
            .map_batches(
                DecodeStage,
                fn_constructor_args=(replace(self.work, form=None),),
                compute=data.ActorPoolStrategy(size=min(pools.decoders, busy)),
                **pools.decoder_resources,
                **batches,
            )
            .map_batches(
                LabelStage,
                fn_constructor_args=(self.work,),
                compute=data.ActorPoolStrategy(size=min(pools.workers, busy)),
                **pools.worker_resources,
                **batches,
            )
        )

    def _tasks(self, todo: Any) -> list[Any]:
        """Splits the paths into tables, small enough for every decoder to get several."""
        videos = max(1, min(_TASK_VIDEOS, len(todo) // (4 * self._pools.decoders)))
        parts = (todo.slice(start, videos) for start in range(0, len(todo), videos))
        return [
            pa.table(
                [np.arange(number * videos, number * videos + len(part)), part], ["number", "path"]
            ).cast(PENDING_SCHEMA)
            for number, part in enumerate(parts)
        ]

    @contextmanager
    def _reporting_failures(self) -> Iterator[None]:
        """Turns failures of Ray and of the workers' code into a ClusterError."""
        failures = (self._ray.exceptions.RayError, self._ray.data.exceptions.ExecutionTimeoutError)
        try:
            yield
        except failures as error:
            raise ClusterError(
                f"The job stopped: {_reason(str(error))} Written rows are kept: start it again to "
                "resume."
            ) from error


def _reason(traceback: str) -> str:
    """Finds the first exception in a traceback, which Ray reports as text."""
    lines = traceback.splitlines() or [""]
    found = next((line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)), lines[0])
    return found if found.endswith(".") else f"{found}."
