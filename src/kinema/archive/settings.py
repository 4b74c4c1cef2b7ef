"""Settings of a job, and the values that its stages share."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kinema.errors import OptionError, check_range
from kinema.values import Preprocessing, Views

if TYPE_CHECKING:  # decoders must not load PyTorch
    from kinema.inference.runtime import Form

# Attempts for a video that ends its decoder: the cause may have been the machine.
ATTEMPTS = 2
# Views of one forward pass on a GPU. On the CPU it is one clip, or one video with the fastest form,
# which divides its batch by itself.
_GPU_VIEWS = 32


@dataclass(frozen=True)
class LabelSettings:
    """Settings that hold for every video.

    Attributes:
        clips: Clips over the video's length.
        crops: 1, 3 or 10 crops of each clip.
        top: Classes to write; all of them when there are fewer.
        features: True to write the mean features before the classifier, too.
        fast: True to run the network in its fastest form, measured once for the whole job.
        retry_failed: True to try videos again that failed in an earlier run.
        decode_s: Seconds for decoding one video.
        decode_mb: Memory for decoding one video.
        file_rows: Rows of one Parquet file; a file is also written every minute.

    Raises:
        OptionError: a number is outside its range.
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
        check_range(
            at_least=1,
            top=self.top,
            decode_s=self.decode_s,
            decode_mb=self.decode_mb,
            file_rows=self.file_rows,
        )

    @property
    def views(self) -> Views:
        """Clips and crops of a video."""
        return Views(clips=self.clips, crops=self.crops)


@dataclass(frozen=True)
class ClusterSettings:
    """Machines and processes of a job.

    Attributes:
        address: Address of a running Ray cluster, or "auto" for the one of this machine; None
            starts Ray on this machine for the duration of the job, on the loopback interface only.
        workers: Processes that run the network; by default one per GPU, else on most of the cores.
        decoders: Processes that decode; by default the cores that are left.
        threads: CPU threads of each worker.
        device: "cpu", "cuda", or None for GPUs if there are any.
        store_mb: Memory for views between decoders and workers, when Ray is started here.

    Raises:
        OptionError: a number is outside its range, or the device is unknown.
    """

    address: str | None = None
    workers: int | None = None
    decoders: int | None = None
    threads: int = 1
    device: Literal["cpu", "cuda"] | None = None
    store_mb: int = 512

    def __post_init__(self) -> None:
        check_range(at_least=1, threads=self.threads, workers=self.workers, decoders=self.decoders)
        check_range(at_least=80, store_mb=self.store_mb)  # Ray takes no less
        if self.device not in (None, "cpu", "cuda"):
            raise OptionError(
                f"device must be cpu or cuda, got {self.device!r}; Ray chooses which GPU."
            )


@dataclass(frozen=True)
class Work:
    """Description of a job for the processes of both stages.

    Attributes:
        checkpoint: Folder of the network.
        root: Folder or address that relative paths start from.
        preprocessing: Preprocessing of the network.
        settings: Settings that hold for every video.
        device: "cpu" or "cuda".
        threads: CPU threads of the network.
        plugins: Files with temporal modules.
        form: Form in which the network runs; None for the plain network.
    """

    checkpoint: str
    root: str
    preprocessing: Preprocessing
    settings: LabelSettings
    device: str
    threads: int
    plugins: tuple[str, ...]
    form: "Form | None" = None

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(V, T, 3, H, W) of the views of one video."""
        how = self.preprocessing
        return self.settings.views.count, how.clip_frames, 3, how.crop_px, how.crop_px

    @property
    def video_bytes(self) -> int:
        """Size of a video's views, which are uint8."""
        return math.prod(self.shape)

    @property
    def decode_s(self) -> int:
        """Longest time for decoding one video, with all attempts."""
        return ATTEMPTS * self.settings.decode_s

    @property
    def views_at_once(self) -> int:
        """Views of one forward pass, also of several videos."""
        if self.device == "cuda":
            return _GPU_VIEWS
        return self.settings.views.count if self.settings.fast else self.settings.crops
