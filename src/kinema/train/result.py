"""What a training run gives back."""

from dataclasses import dataclass
from pathlib import Path

from kinema.train.timing import Bound, EpochTime


@dataclass(frozen=True)
class BestResult:
    """The best validation of a run; `top1` is a share in 0..1, `epoch` counts from 1."""

    top1: float
    epoch: int


@dataclass(frozen=True)
class EpochResult:
    """One epoch: mean training loss and accuracy, validation accuracy, and where time went.

    `val_top1` is None in an epoch that was not validated; `skipped` counts the training videos
    that could not be read so far, `val_skipped` those of its validation.
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
        best: Its best validation.
        train_s: Seconds of the whole run, interruptions excluded.
        bound: Whether the loader or the model bounds the speed.
        skipped: Training videos that could not be read (policy "skip").
        history: The epochs trained by this call.
        rank: This process among the training processes; only 0 should print.
    """

    run: Path
    epochs: int
    best: BestResult
    train_s: float
    bound: Bound
    skipped: int
    history: tuple[EpochResult, ...]
    rank: int
