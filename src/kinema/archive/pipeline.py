"""The job on Ray Data: paths to decoders, views to workers, rows to the caller."""

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

# Views that travel together: many enough to be worth a message, small beside the store.
_BLOCK_BYTES, _BLOCK_VIDEOS, _STORE_SHARE = 32 * 2**20, 16, 16
# How long nothing may happen beyond what a block of hanging videos takes. The work of a lost GPU
# that never comes back would otherwise be waited for, for ever.
_PATIENCE_S = 300
# Videos of one decoding task, which a lost worker has to do again.
_TASK_VIDEOS = 256
# The store must hold a few blocks for every process of a machine.
_STORE_BLOCKS = 4


class Pipeline:
    """Decoders and workers of one job.

    What lies between them is bounded: Ray Data holds decoding back when its part of the object
    store is full, and the workers when the caller does not take rows. A killed process is replaced
    and its task done again.

    Args:
        ray: The module, connected.
        pools: How many processes.
        work: What they do.

    Attributes:
        work: What they do.
        began: When the first videos came to the network, in seconds of the epoch.

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
        """What runs fastest in a worker, measured in one."""
        measure = self._ray.remote(fastest_form).options(**self._pools.worker_resources)
        with self._told():
            form: Form = self._ray.get(measure.remote(self.work, todo.slice(0, 32).to_pylist()))
        return form

    def rows(self, todo: Any) -> Iterator[Any]:
        """Tables of rows as they become ready, every video once.

        Args:
            todo: Arrow array of paths.

        Raises:
            ClusterError: something failed that is no video's fault.
        """
        arrived = np.zeros(len(todo), bool)
        with self._told():
            for table in self._labeled(todo).iter_batches(batch_size=None, batch_format="pyarrow"):
                numbers = table["number"].to_numpy()
                new = ~arrived[numbers]
                arrived[numbers] = True
                self.began = min(self.began, *table["began"].to_pylist())
                rows = table.filter(pa.array(new))
                yield rows.drop_columns([field.name for field in BESIDE])

    def _labeled(self, todo: Any) -> Any:
        """The lazy data set."""
        data, pools = self._ray.data, self._pools
        most = min(_BLOCK_BYTES, pools.store_bytes // _STORE_SHARE)
        videos = max(1, min(_BLOCK_VIDEOS, most // self.work.video_bytes))
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_no_progress_timeout_s = _PATIENCE_S + videos * self.work.decode_s
        context.target_max_block_size = videos * self.work.video_bytes
        batches = {"batch_size": videos, "batch_format": "pyarrow"}
        busy = -(-len(todo) // videos)  # more processes would never get a batch
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
        """Tables of some videos: enough for every decoder to have several."""
        videos = max(1, min(_TASK_VIDEOS, len(todo) // (4 * self._pools.decoders)))
        parts = (todo.slice(start, videos) for start in range(0, len(todo), videos))
        return [
            pa.table(
                [np.arange(number * videos, number * videos + len(part)), part], ["number", "path"]
            ).cast(PENDING_SCHEMA)
            for number, part in enumerate(parts)
        ]

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Failures of Ray and of the workers' code as one error."""
        failures = (self._ray.exceptions.RayError, self._ray.data.exceptions.ExecutionTimeoutError)
        try:
            yield
        except failures as error:
            raise ClusterError(
                f"The job stopped: {_reason(str(error))} What is written is kept; started again "
                "it goes on."
            ) from error


def _reason(traceback: str) -> str:
    """The first exception of a traceback, which Ray hands on as text."""
    lines = traceback.splitlines() or [""]
    found = next((line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)), lines[0])
    return found if found.endswith(".") else f"{found}."
