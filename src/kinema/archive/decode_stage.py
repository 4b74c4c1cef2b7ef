"""First stage of the job: paths to views, Arrow tables in and out.

There are many such processes, so this module loads neither PyTorch nor a network.
Letters: V views, T frames, H, W.
"""

from pathlib import Path
from typing import Any

from kinema.archive.arrow import as_text, file_of, pa
from kinema.archive.settings import ATTEMPTS, Work
from kinema.decoders.jobs import ClipsJob, FailureName
from kinema.decoders.parent import DecoderParent
from kinema.decoders.pool import DecoderPool, DecoderSettings, DecodingError
from kinema.errors import UnreadableVideoError
from kinema.system.closing import Closing
from kinema.system.process import keep_freed_memory

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


class VideoDecoder(Closing):
    """Decodes the views of videos in a sandbox, which is replaced when a video breaks it.

    Args:
        work: The job.
    """

    def __init__(self, work: Work) -> None:
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

    def read(self, path: str) -> bytes:
        """Returns the views of a video, (V, T, 3, H, W) uint8 RGB in one piece.

        Args:
            path: Its name in the list.

        Raises:
            ClusterError: no decoder can be started on this machine.
            UnreadableVideoError: the video cannot be read, or ended its decoder twice.
        """
        work = self._work
        file = str(file_of(Path(work.root), path))
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
            views = b"".join(array.data for clip in answers for array in clip.arrays[:1])
            if len(views) == work.video_bytes:
                return views
            last = f"The decoder sent {len(views)} bytes instead of {work.video_bytes}."
        raise UnreadableVideoError(f"{file} cannot be read in {ATTEMPTS} attempts: {last}")

    def close(self) -> None:
        """Ends the processes."""
        self._pool.close()
        self._parent.close()


class DecodeStage(Closing):
    """Decodes the videos of a table one after another.

    Args:
        work: The job.
    """

    def __init__(self, work: Work) -> None:
        keep_freed_memory()  # mapping new memory for each video takes as long as receiving it
        self._decoder = VideoDecoder(work)

    def __call__(self, todo: Any) -> Any:
        """Adds the columns views (V*T*3*H*W bytes, or null) and error."""
        read = [self._views(path) for path in todo["path"].to_pylist()]
        columns = {
            "number": todo["number"],
            "path": todo["path"],
            "views": pa.array([views for views, _ in read], pa.large_binary()),
            "error": pa.array([error for _, error in read], pa.string()),
        }
        return pa.table(columns, schema=_VIEWS_SCHEMA)

    def close(self) -> None:
        """Ends the decoder."""
        self._decoder.close()

    def _views(self, path: str) -> tuple[bytes | None, str | None]:
        try:
            return self._decoder.read(path), None
        except UnreadableVideoError as error:
            return None, as_text(str(error))
