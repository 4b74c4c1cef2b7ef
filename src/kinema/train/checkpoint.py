"""Training state: everything that a resumed run needs to give identical weights.

No random state is stored. Every random choice is a function of the seed and the position:
(seed, epoch, video) for the data, (seed, epoch, batch) for dropout and mixing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from kinema.errors import CheckpointError
from kinema.models.network import VideoNetwork
from kinema.models.weights import load_without_code
from kinema.system.files import whole_file

FORMAT = 2


@dataclass
class Sums:
    """Sums over clips, since the start of an epoch or since the last line of the log."""

    loss: float = 0.0
    correct: float = 0.0
    clips: int = 0
    compute_s: float = 0.0
    wait_s: float = 0.0
    cpu_s: float = 0.0

    def add(self, more: "Sums") -> None:
        """Adds the sums of further clips."""
        for name, value in asdict(more).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Position:
    """Progress of a run.

    Attributes:
        epoch: Finished epochs, validation included.
        batches: Batches of the current epoch that this process has trained on.
        steps: Optimizer steps of the whole run.
        lr: Learning rate of the backbone's weights in the last step.
        lines: Lines of metrics.jsonl written so far.
        best_top1: Best validation top-1 (0..1); None before the first validation.
        best_epoch: Its epoch, counted from 1.
        train_s: Seconds spent so far, interruptions excluded.
        of_epoch: Sums since the start of the epoch.
        of_window: Sums since the last line of the log.
    """

    epoch: int = 0
    batches: int = 0
    steps: int = 0
    lr: float = 0.0
    lines: int = 0
    best_top1: float | None = None
    best_epoch: int | None = None
    train_s: float = 0.0
    of_epoch: Sums = field(default_factory=Sums)
    of_window: Sums = field(default_factory=Sums)

    def add(self, more: Sums) -> None:
        """Adds the sums of a batch."""
        self.of_epoch.add(more)
        self.of_window.add(more)
        self.train_s += more.compute_s + more.wait_s

    def note_validation(self, top1: float | None) -> bool:
        """Records the validation result of this epoch; returns True if it is the best so far."""
        if top1 is None or (self.best_top1 is not None and top1 <= self.best_top1):
            return False
        self.best_top1, self.best_epoch = top1, self.epoch + 1
        return True


@dataclass
class TrainState:
    """The objects that training changes."""

    net: VideoNetwork
    optimizer: Optimizer
    schedule: LRScheduler
    ema: AveragedModel | None = None


def save_state(path: Path, state: TrainState, *positions: Position) -> None:
    """Replaces the saved training state.

    Args:
        path: The file.
        state: Network, optimizer, schedule and average; identical in all processes.
        positions: Progress of each process, by rank; only the sums differ.
    """
    # Of the processes only the sums differ, so one file holds all: weights once, a position each.
    document = {
        "format": FORMAT,
        "positions": [asdict(position) for position in positions],
        "net": state.net.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "schedule": state.schedule.state_dict(),
        "ema": None if state.ema is None else state.ema.state_dict(),
    }
    # Atomic: a run that is killed while saving resumes from the previous state.
    with whole_file(path) as partial, partial.open("wb") as file:
        torch.save(document, file)


def load_state(path: Path, state: TrainState, *, rank: int = 0, world: int = 1) -> Position:
    """Restores the training state and returns the progress that was saved with it.

    Args:
        path: The file.
        state: Objects to restore.
        rank: Rank of this process among `world`. If the number of processes has not changed, each
            keeps its own sums; otherwise the first one gets the total.
        world: Number of processes.

    Raises:
        CheckpointError: the file is damaged or does not fit the network or optimizer.
    """
    # On the CPU, because the objects below already lie on their devices and copy into place.
    try:
        document: dict[str, Any] = load_without_code(path)
    except CheckpointError as error:
        raise CheckpointError(
            f"{path} is not a readable training state ({error}). Restore it from a copy, or delete "
            "it to train from the start; networks saved beside it are files of their own."
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a training state of this version of kinema.")
    try:
        # In place: the optimizer and the EMA refer to the tensors of this network.
        state.net.load_state_dict(document["net"])
        state.optimizer.load_state_dict(document["optimizer"])
        state.schedule.load_state_dict(document["schedule"])
        if state.ema is not None:
            state.ema.load_state_dict(document["ema"])
        positions = [
            Position(**fields | {name: Sums(**fields[name]) for name in ("of_epoch", "of_window")})
            for fields in document["positions"]
        ]
        return _position_of(rank, world, positions)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} belongs to another network or optimizer than the recipe: {error}"
        ) from error


def _position_of(rank: int, world: int, positions: Sequence[Position]) -> Position:
    if len(positions) == world:
        return positions[rank]
    # Sums are added over processes when logged, so that rank 0 may hold the total.
    first, *others = positions
    for other in others:
        first.of_epoch.add(other.of_epoch)
        first.of_window.add(other.of_window)
    return first if rank == 0 else replace(first, of_epoch=Sums(), of_window=Sums())
