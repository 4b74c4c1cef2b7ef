"""Results of a training run, and the time that its epochs spent on data and on the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Bound = Literal["loader", "cores", "model"]

# Worker processes prefetch while the model computes, so a lasting wait means that they do not
# keep up; a share is allowed for their start and for uneven videos. Without workers the two
# alternate, and the larger share is the bottleneck.
LIMIT_WITH_WORKERS = 0.2
LIMIT_WITHOUT_WORKERS = 0.5
# Computing on a CPU keeps its thread busy. It gets less of a core where others use it: with as many
# busy workers as threads half, with five other processes on two cores a quarter or less.
LIMIT_OF_CORE = 0.6


@dataclass(frozen=True)
class EpochTime:
    """Seconds of one epoch's training, without evaluation and saving.

    `cpu_s` are seconds on a core within `compute_s`, of the thread that trains; None on a GPU.
    """

    wait_s: float
    compute_s: float
    videos: int
    workers: int
    cpu_s: float | None = None
    threads: int = 1

    @property
    def core_share(self) -> float:
        """Fraction of the computing time that the thread was on a core, 0..1; 1 on a GPU."""
        return 1.0 if self.cpu_s is None or not self.compute_s else self.cpu_s / self.compute_s

    @property
    def wait_share(self) -> float:
        """Fraction of the time spent waiting for data, 0..1."""
        total = self.wait_s + self.compute_s
        return self.wait_s / total if total > 0 else 0.0

    @property
    def videos_per_s(self) -> float:
        """Training videos per second, waiting included."""
        total = self.wait_s + self.compute_s
        return self.videos / total if total > 0 else 0.0

    @property
    def bound(self) -> Bound:
        """The bottleneck: loader, cores that others use, or model."""
        limit = LIMIT_WITH_WORKERS if self.workers else LIMIT_WITHOUT_WORKERS
        if self.wait_share > limit:
            return "loader"
        return "cores" if self.core_share < LIMIT_OF_CORE else "model"

    def __str__(self) -> str:
        return (
            f"bound by the {self.bound}: {100 * self.wait_share:.0f} % of the time was spent "
            f"waiting for data, {self.videos_per_s:.1f} videos/s{self._advice}"
        )

    @property
    def _advice(self) -> str:
        if self.bound == "model":
            return ""
        if self.bound == "cores":
            fix = "stop other programs" + (" or lower data.workers" if self.workers else "")
            if self.threads > 1:
                fix = f"{self.threads} threads wait for each other, so try OMP_NUM_THREADS=1"
            return f"; computing was on a core for {100 * self.core_share:.0f} % of its time: {fix}"
        return (
            "; raise data.workers, or store the videos in a smaller size"
            if self.workers
            else "; set data.workers above 0 so that videos load while the model computes"
        )


def total_time(times: list[EpochTime]) -> EpochTime:
    """Sums the times of all epochs."""
    return EpochTime(
        wait_s=sum(t.wait_s for t in times),
        compute_s=sum(t.compute_s for t in times),
        videos=sum(t.videos for t in times),
        workers=max((t.workers for t in times), default=0),
        cpu_s=sum(t.compute_s if t.cpu_s is None else t.cpu_s for t in times),
        threads=max((t.threads for t in times), default=1),
    )


@dataclass(frozen=True)
class BestResult:
    """Best validation result of a run; `top1` is in 0..1, `epoch` counts from 1."""

    top1: float
    epoch: int


@dataclass(frozen=True)
class EpochResult:
    """Result of an epoch: mean training loss and accuracy, validation accuracy, and times.

    `val_top1` is None in an epoch without validation; `skipped` counts the unreadable training
    videos of the run so far, `val_skipped` those of this validation.
    """

    epoch: int
    lr: float
    loss: float
    top1: float
    val_top1: float | None
    skipped: int
    val_skipped: int
    time: EpochTime

    def __str__(self) -> str:
        parts = [f"loss {self.loss:.3f}", f"top-1 {100 * self.top1:.1f} %"]
        if self.val_top1 is not None:
            parts.append(f"validation top-1 {100 * self.val_top1:.1f} %")
        if self.skipped:
            parts.append(f"{self.skipped} unreadable videos skipped")
        if self.val_skipped:
            parts.append(f"{self.val_skipped} unreadable validation videos skipped")
        return f"epoch {self.epoch}: {', '.join(parts)}; {self.time}"


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        run: The run folder.
        epochs: Epochs of the whole run.
        best: Best validation result.
        train_s: Seconds of the whole run, interruptions excluded.
        bound: The bottleneck: loader, cores (that others use) or model.
        skipped: Unreadable training videos (with data.unreadable = "skip").
        history: The epochs trained by this call.
        rank: Rank of this process; only rank 0 should print.
    """

    run: Path
    epochs: int
    best: BestResult
    train_s: float
    bound: Bound
    skipped: int
    history: tuple[EpochResult, ...]
    rank: int
