"""First stage of the job: paths to views, Arrow tables in and out.

There are many such processes, so this module loads neither PyTorch nor a network.
Letters: V views, X crops, T frames, H, W.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.archive.arrow import as_text, file_of, pa
from kinema.archive.settings import ATTEMPTS, Work
from kinema.decoders.jobs import ClipsJob, FailureName
from kinema.decoders.parent import DecoderParent
from kinema.decoders.pool import DecoderPool, DecoderSettings, DecodingError
from kinema.errors import UnreadableVideoError
from kinema.system.closing import Closing
from kinema.system.process import keep_freed_memory
from kinema.system.text import visible
from kinema.video.remote import is_url, local_file, url_in

# Videos on their way to a decoder. `number` is their place in the job and never reaches the output.
PENDING_SCHEMA = pa.schema([("number", pa.int64()), ("path", pa.string())])
_VIEWS_SCHEMA = pa.schema(
    [*PENDING_SCHEMA, ("views", pa.large_binary()), ("error", pa.string())],
)
# Ends of a decoder that the machine may have caused, so the video gets another attempt.
_PERHAPS_THE_MACHINE: tuple[FailureName, ...] = (
    "decoding_takes_long",
    "decoder_crashed",
    "decoder_lost",
)


class DecodeStage(Closing):
    """Decodes videos in a sandbox, which is replaced when a video breaks it."""

    def __init__(self, work: Work) -> None:
        keep_freed_memory()  # mapping new memory for each video takes as long as receiving it
        self._work = work
        wanted = work.settings
        self._parent = DecoderParent()
        self._parent.start()
        # A video has a budget of wall time only. The CPU time of one clip needs no limit of its
        # own, because decoding runs in one thread.
        allowed = DecoderSettings(
            workers=1,
            memory_bytes=wanted.decode_mb * 2**20,
            cpu_s=None,
            silence_s=wanted.decode_s,
        )
        self._pool = DecoderPool(allowed, self._parent)

    def __call__(self, todo: Any) -> Any:
        """Decodes the videos of a table; adds the columns views (V*T*3*H*W bytes) and error."""
        # All videos have views of one size, so they are decoded into the buffer of the column;
        # Arrow would copy them.
        views = np.empty((todo.num_rows, self._work.video_bytes), np.uint8)
        reasons: list[str | None] = []
        for path in todo["path"].to_pylist():
            reason = None
            try:
                np.concatenate(self.read(path), out=views[reasons.count(None)])
            except UnreadableVideoError as error:
                reason = visible(as_text(str(error)))
            reasons.append(reason)
        errors = pa.array(reasons, pa.string())
        is_good = errors.is_null()
        edges = np.cumsum([0, *is_good.to_pylist()]) * self._work.video_bytes
        buffers = [
            is_good.buffers()[1],
            pa.py_buffer(edges),
            pa.py_buffer(views[: reasons.count(None)]),
        ]
        column = pa.Array.from_buffers(pa.large_binary(), len(errors), buffers)
        return pa.table([todo["number"], todo["path"], column, errors], schema=_VIEWS_SCHEMA)

    def read(self, path: str) -> list[NDArray[np.uint8]]:
        """Returns the views of each clip of a video, (X*T*3*H*W,) RGB.

        Args:
            path: Its name in the list.

        Raises:
            ClusterError: no decoder can be started on this machine.
            UnreadableVideoError: the video cannot be read, or ended its decoder twice.
        """
        with local_file(_located(self._work.root, path)) as file:
            return self._decode(str(file))

    def _decode(self, file: str) -> list[NDArray[np.uint8]]:
        work = self._work
        wanted = work.settings
        job = ClipsJob(file, work.preprocessing, wanted.clips, wanted.crops, limits=None)
        last = ""
        for _ in range(ATTEMPTS):
            # Starting takes seconds, which are not part of the video's time.
            self._pool.start()
            try:
                answers = list(self._pool.answers(job, most_s=wanted.decode_s))
            except DecodingError as error:
                last = str(error)
                if error.reason == "decoding_needs_memory":
                    raise UnreadableVideoError(f"{file} cannot be read: {last}") from error
                if error.reason not in _PERHAPS_THE_MACHINE:
                    raise UnreadableVideoError(last) from error
                continue
            arrays = [array for answer in answers for array in answer.arrays[:1]]
            clips = [array.ravel().view(np.uint8) for array in arrays]
            count = sum(map(len, clips))
            if count == work.video_bytes:
                return clips
            last = f"The decoder sent {count} bytes instead of {work.video_bytes}."
        raise UnreadableVideoError(f"{file} cannot be read in {ATTEMPTS} attempts: {last}")

    def close(self) -> None:
        """Ends the processes."""
        self._pool.close()
        self._parent.close()


def _located(root: str, path: str) -> str | Path:
    """The file or address of a path in the list."""
    if is_url(path):
        return path
    is_remote = is_url(root) and not os.path.isabs(path)
    return url_in(root, path) if is_remote else file_of(Path(root), path)
