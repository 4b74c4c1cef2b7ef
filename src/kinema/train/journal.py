"""The log of a run: metrics.jsonl, TensorBoard events and the progress bar.

Each line of metrics.jsonl is one JSON object. `kind` is "train" every log_every_steps steps, with
lr, mean loss and top1 since the previous line, and the mean seconds per step of computing
(step_s) and of waiting for data (wait_s); or "epoch" at the end of an epoch, with loss and top1
over the epoch, val_top1, val_top5 and val_mean_class if it was validated, seconds of waiting
(wait_s) and computing (train_s), bound, and skipped, the number of unreadable videos. Epochs
count from 1, accuracies are fractions in 0..1.
"""

import json
import sys
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kinema.errors import missing_extra
from kinema.system.files import naming_write_errors
from kinema.train.checkpoint import Position
from kinema.train.job import Job
from kinema.train.result import EpochResult
from kinema.train.run_folder import RunFolder
from kinema.values import Report

try:
    from torch.utils.tensorboard.writer import SummaryWriter
except ModuleNotFoundError as error:
    raise missing_extra("Training", error.name, "train") from error

Value = float | int | str | None


class Journal:
    """Writes the log of a run; a context manager.

    Args:
        run: The run folder.
        position: Progress of the run; TensorBoard hides events of later steps.
        enabled: False turns every call into a no-op, for processes other than the first.
        quiet: No progress bar. Without a terminal on stderr there is none either.

    Attributes:
        lines: Lines of metrics.jsonl so far.
    """

    def __init__(self, run: RunFolder, position: Position, *, enabled: bool, quiet: bool) -> None:
        self.lines = position.lines
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=quiet or not enabled or not sys.stderr.isatty(),
            transient=True,
        )
        self._task = self._bar.add_task("", note="")
        self._path = run.metrics
        with naming_write_errors(self._path):
            self._file = run.metrics.open("a", encoding="utf-8") if enabled else None
        self._events: Any = None
        if enabled:
            self._events = SummaryWriter(str(run.events), purge_step=position.steps + 1)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._file is not None:
            self._file.close()
            self._events.close()

    def record(self, kind: str, *, epoch: int, step: int, **values: Value) -> None:
        """Appends a line to metrics.jsonl and its numbers to the TensorBoard events."""
        if self._file is None:
            return
        line = {"kind": kind, "epoch": epoch, "step": step, **values}
        with naming_write_errors(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        self.lines += 1
        for name, value in values.items():
            if isinstance(value, float | int):
                self._events.add_scalar(f"{kind}/{name}", value, step)

    def record_epoch(self, result: EpochResult, report: Report | None, *, step: int) -> None:
        """Appends the line of an epoch."""
        validation: dict[str, Value] = {}
        if report is not None:
            validation = {
                "val_top1": report.top1,
                "val_top5": report.top5,
                "val_mean_class": report.mean_class,
                "val_skipped": result.val_skipped,
            }
        self.record(
            "epoch",
            epoch=result.epoch,
            step=step,
            lr=result.lr,
            loss=result.loss,
            top1=result.top1,
            **validation,
            wait_s=result.time.wait_s,
            train_s=result.time.compute_s,
            videos_per_s=result.time.videos_per_s,
            bound=result.time.bound,
            skipped=result.skipped,
        )

    def begin(self, title: str, *, total: int, done: int = 0) -> None:
        """Restarts the progress bar."""
        self._bar.reset(self._task, description=title, total=total, completed=done, note="")

    def advance(self, done: int, *, loss: float | None = None) -> None:
        """Moves the progress bar."""
        note = "" if loss is None else f"loss {loss:.3f}"
        self._bar.update(self._task, completed=done, note=note)


def card_lines(job: Job, result: EpochResult) -> dict[str, str]:
    """Model card entries of an epoch's network: data, recipe and result.

    Paths outside the current folder are reduced to their names, since cards are published.
    """
    recipe = job.recipe
    optimizer, train, start = recipe.optimizer, recipe.train, recipe.model.weights
    lines = {
        "Training videos": f"{job.loader.videos}, {_shown(recipe.data.train)}",
        "Validation videos": f"{len(job.val) - result.val_skipped}, {_shown(recipe.data.val)}",
        "Trained": f"{result.epoch} of {train.epochs} epochs",
        "Settings": f"{optimizer.name}, learning rate {optimizer.lr:g}, {recipe.schedule.name} "
        f"schedule, {train.batch_size} clips a step, seed {train.seed}; all are in "
        f"{job.run.recipe.name} of the run",
        "Started from": "random weights" if start is None else _shown(Path(start)),
    }
    if result.val_top1 is not None:
        views = recipe.evaluation.views
        lines["Validation top-1"] = (
            f"{100 * result.val_top1:.2f} % (clips {views.clips}, crops {views.crops})"
        )
    return lines


def _shown(path: Path) -> str:
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()
