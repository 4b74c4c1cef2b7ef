"""What is asked of every video, and what may be used for it."""

from dataclasses import dataclass
from typing import Literal

from kinema.errors import OptionError
from kinema.values import Views


@dataclass(frozen=True)
class LabelSettings:
    """What becomes of every video.

    Attributes:
        clips: Clips over the video's length.
        crops: 1, 3 or 10 crops of each clip.
        top: How many classes to write; all of them when there are fewer.
        features: Whether to write the mean features before the classifier, too.
        fast: Whether the network runs in its fastest form, measured once for the whole job.
        retry_failed: Whether videos that failed in an earlier run are tried again.
        decode_s: Time for decoding one video.
        decode_mb: Memory for decoding one video.
        file_rows: Rows of one Parquet file; a file is also written every minute.
    """

    clips: int = 1
    crops: int = 1
    top: int = 5
    features: bool = False
    fast: bool = False
    retry_failed: bool = False
    decode_s: int = 60
    decode_mb: int = 2048
    file_rows: int = 5000

    def __post_init__(self) -> None:
        Views(clips=self.clips, crops=self.crops)
        _at_least(1, top=self.top, decode_s=self.decode_s, decode_mb=self.decode_mb)
        _at_least(1, file_rows=self.file_rows)

    @property
    def views(self) -> Views:
        """Clips and crops of a video."""
        return Views(clips=self.clips, crops=self.crops)


@dataclass(frozen=True)
class ClusterSettings:
    """Where the work is done.

    Attributes:
        address: Address of a running Ray cluster, or "auto" for the one of this machine; None
            starts Ray in this machine for the time of the job, on the loopback interface only.
        workers: Processes that run the network; by default one per GPU, else on most of the cores.
        decoders: Processes that decode; by default the cores that are left.
        threads: CPU threads of each worker.
        device: "cpu", "cuda", or None for GPUs where there are any.
        store_mb: Memory for what lies between decoders and workers, when Ray is started here.
    """

    address: str | None = None
    workers: int | None = None
    decoders: int | None = None
    threads: int = 1
    device: Literal["cpu", "cuda"] | None = None
    store_mb: int = 512

    def __post_init__(self) -> None:
        _at_least(1, threads=self.threads)
        _at_least(80, store_mb=self.store_mb)  # Ray takes no less
        for name, count in (("workers", self.workers), ("decoders", self.decoders)):
            if count is not None:
                _at_least(1, **{name: count})
        if self.device not in (None, "cpu", "cuda"):
            raise OptionError(
                f"device must be cpu or cuda, got {self.device!r}; Ray chooses which GPU."
            )


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise OptionError(f"{name} must be at least {least}, got {value}.")
