"""What a training run knows for the model card of its networks."""

from pathlib import Path

from kinema.train.job import Job
from kinema.train.result import EpochResult


def card_lines(job: Job, result: EpochResult) -> dict[str, str]:
    """Lines for `kinema.models.saved.save`: data, recipe and result of this epoch.

    Of paths outside of the current folder only the name is told: cards are published.
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
