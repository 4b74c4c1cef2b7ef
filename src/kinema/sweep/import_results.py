"""Imports results of trainings that another machine or folder has finished."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kinema.errors import RecipeError
from kinema.sweep.spec import Sweep
from kinema.sweep.summary import read_summary
from kinema.train.recipe import Recipe, changed_keys
from kinema.train.run_folder import FREE_ON_RESUME

# Paths of videos and weights differ between machines; they are assumed to be the same data.
_PLACES = {
    "data.train",
    "data.val",
    "data.root",
    "data.val_root",
    "data.classes",
    "data.index_cache",
    "model.weights",
}
_MAY_DIFFER = FREE_ON_RESUME | _PLACES | {"train.seed"}


def known_results(sweep: Sweep, path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Reads finished results of the same sweep, or of a part of it, by variant and seed.

    Ignores variants and seeds that are not in the sweep.

    Args:
        sweep: The sweep to run.
        path: results.json of a sweep.

    Raises:
        KinemaError: the file is not a results file of a sweep.
        RecipeError: its trainings used other settings or motion sets; the message names them.
    """
    document = read_summary(path)
    try:
        old = Recipe.model_validate_json(json.dumps(document["recipe"]))
        used = {
            cell["variant"]: document["variants"][cell["variant"]] for cell in document["cells"]
        }
        differing = _differing(sweep, old, document)
        found = [_with_facts(cell, document["facts"]) for cell in document["cells"]]
    except (KeyError, IndexError, TypeError, ValidationError) as error:
        raise RecipeError(
            f"{path} was written by another version of kinema or is damaged: {error!r}."
        ) from error
    epochs = {(cell.variant, cell.seed): cell.recipe.train.epochs for cell in sweep.cells}
    known = {}
    for result in found:
        name, seed = key = result["variant"], result["seed"]
        if key not in epochs:
            continue
        others = list(differing)
        if used[name] != list(sweep.spec.variants[name]):
            others.append("its settings")
        # A schedule may allow other epochs; a result counts only if it has the number wanted now.
        if not others and result["epochs"] != epochs[key]:
            others.append("train.epochs")
        if others:
            raise RecipeError(
                f"{path}: {name}, seed {seed} was trained with other settings than {sweep.source}: "
                f"{', '.join(others)}. Remove its line from the file's cells to train it again."
            )
        known[key] = result
    return known


def _differing(sweep: Sweep, old: Recipe, document: dict[str, Any]) -> list[str]:
    """Names the settings common to all variants that differ from those of the document."""
    # Settings that a variant changes differ between the first cells of the two sweeps; they are
    # compared by variant.
    tables = (*document["variants"].values(), *sweep.spec.variants.values())
    varied = {word.partition("=")[0] for words in tables for word in words}
    changed = changed_keys(old, sweep.cells[0].recipe)
    sets = [
        ("[motion]", document["motion"], sweep.spec.motion),
        ("[tests]", document["test_sets"], sweep.spec.tests),
    ]
    return [
        *(key for key in changed if key not in _MAY_DIFFER | varied),
        *(name for name, before, now in sets if before != now),
    ]


def _with_facts(cell: dict[str, Any], facts: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the result of a cell with its versions, commit and machine."""
    place: dict[str, Any] = facts[cell["facts"]]
    return {key: value for key, value in cell.items() if key != "facts"} | place
