"""Folder of a run: settings, facts, log, training state and saved networks."""

import json
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from kinema.errors import OptionError, RecipeError
from kinema.models.saved import put_back
from kinema.system.files import is_unused, write_whole
from kinema.system.folder_lock import locked_folder
from kinema.system.machine import run_facts
from kinema.train.recipe import Recipe, changed_keys, load_recipe
from kinema.values import WeightsReport

# Settings that may change when a run is resumed, since they do not affect the numbers. The
# number of epochs may change too unless the schedule depends on it.
FREE_ON_RESUME = frozenset(
    {
        "data.workers",
        "data.empty_classes",
        "data.unreadable",
        "train.accelerator",
        "train.activation_checkpointing",
        "train.compile",
        "train.devices",
        "train.strategy",
        "train.keep",
        "train.checkpoint_every_steps",
        "train.log_every_steps",
    }
)


class RunFolder:
    """Paths in the folder of a run.

    Attributes:
        path: The folder.
        recipe: recipe.toml, the full effective settings.
        facts: run.json: versions, commit, machine and, under "weights", the tensors that a weight
            file filled.
        metrics: metrics.jsonl, one JSON object per line.
        events: TensorBoard's folder.
        state: state.pt, the training state, to resume.
        best: The network of the best epoch.
        last: The network of the last epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.toml"
        self.facts = path / "run.json"
        self.metrics = path / "metrics.jsonl"
        self.events = path / "tensorboard"
        self.state = path / "state.pt"
        self.best = path / "best"
        self.last = path / "last"


@contextmanager
def open_folder(
    run: RunFolder, recipe: Recipe, weights: WeightsReport | None, *, resume: bool
) -> Iterator[None]:
    """Opens the folder of a run with these initial weights, a new one or to resume.

    Until the end of the block no other process can train in it.

    Raises:
        OptionError: the folder of a new run is not empty, apart from what a killed run left before
            its settings; no run to resume was started there; or another run is in it.
        OutputError: it cannot be written to.
        RecipeError: settings that affect the numbers differ; the message names them.
    """
    if resume and not run.recipe.is_file():
        raise OptionError(f"There is no run to resume in {run.path}: it has no {run.recipe.name}.")
    if not resume and not is_unused(run.path, first=run.recipe):
        raise OptionError(
            f"The run folder {run.path} is not empty. Resume the run that is in it, or choose "
            "another folder."
        )
    with locked_folder(run.path, task="Another training"):
        if resume:
            check_same_settings(run, recipe)
            for network in (run.best, run.last):
                put_back(network)
            for leftover in [*run.path.glob(".best.*"), *run.path.glob(".last.*")]:
                shutil.rmtree(leftover)
        _write_settings(run, recipe, weights)
        yield


def initial_weights(run: RunFolder) -> WeightsReport | None:
    """The tensors that a weight file filled when the run was started; None without one."""
    if not run.facts.is_file():
        return None
    weights = json.loads(run.facts.read_text(encoding="utf-8")).get("weights")
    if weights is None:
        return None
    source = weights.pop("source")
    return WeightsReport(source, **{key: tuple(names) for key, names in weights.items()})


def check_same_settings(run: RunFolder, recipe: Recipe) -> None:
    """Checks that a run was started with settings that give the same numbers.

    Raises:
        RecipeError: settings that affect the numbers differ; the message names them.
    """
    old = load_recipe(run.recipe)
    free = set(FREE_ON_RESUME)
    if recipe.schedule.name != "cosine":
        free.add("train.epochs")
    changed = [key for key in changed_keys(old, recipe) if key not in free]
    if changed == ["train.epochs"]:
        raise RecipeError(
            f"The run in {run.path} was started with train.epochs={old.train.epochs}, and its "
            f"cosine schedule lowers the learning rate until then. {how_to_continue(run, old)}"
        )
    if changed:
        raise RecipeError(
            f"The run in {run.path} was started with other settings; {', '.join(changed)} "
            f"{'differs' if len(changed) == 1 else 'differ'} from {run.recipe}. Resume with the "
            "same settings, or start a new run."
        )


def how_to_continue(run: RunFolder, recipe: Recipe) -> str:
    """Advice for a finished run that should have been longer."""
    folder = shlex.quote(str(run.path))
    if recipe.schedule.name != "cosine":
        return f"To train on: kinema train --resume {folder} train.epochs=MORE"
    network = shlex.quote(str(run.best if recipe.train.keep == "best" else run.last))
    return (
        "To train on, start a new run from its network: kinema train "
        f"{shlex.quote(str(run.recipe))} model.weights={network} train.epochs=MORE --out NEW"
    )


def cut_metrics(run: RunFolder, *, lines: int) -> None:
    """Removes log lines that are newer than the saved training state."""
    if run.metrics.is_file():
        kept = run.metrics.read_bytes().splitlines(keepends=True)[:lines]
        write_whole(run.metrics, b"".join(kept))


def _write_settings(run: RunFolder, recipe: Recipe, weights: WeightsReport | None) -> None:
    write_whole(run.recipe, recipe.to_toml())
    report = None if weights is None else asdict(weights)
    write_whole(run.facts, json.dumps({**run_facts(), "weights": report}, indent=2) + "\n")
