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
        variants, facts = document["variants"], document["facts"]
        sets = {"[motion]": document["motion"], "[tests]": document["test_sets"]}
        used = {cell["variant"]: variants[cell["variant"]] for cell in document["cells"]}
        where = [facts[cell["facts"]] for cell in document["cells"]]
    except (KeyError, IndexError, TypeError, ValidationError) as error:
        raise RecipeError(
            f"{path} was written by another version of kinema or is damaged: {error!r}."
        ) from error
    own = {name: list(words) for name, words in sweep.spec.variants.items()}
    varied = {
        word.partition("=")[0] for table in (variants, own) for ws in table.values() for word in ws
    }
    differing = [
        *(
            key
            for key in changed_keys(old, sweep.cells[0].recipe)
            if key not in _MAY_DIFFER | varied
        ),
        *(
            name
            for name, now in {"[motion]": sweep.spec.motion, "[tests]": sweep.spec.tests}.items()
            if sets[name] != now
        ),
    ]
    wanted = {(cell.variant, cell.seed): cell.recipe.train.epochs for cell in sweep.cells}
    known = {}
    for cell, place in zip(document["cells"], where, strict=True):
        name, seed = cell["variant"], cell["seed"]
        if (name, seed) not in wanted:
            continue
        others = [*differing, *(["its settings"] if used[name] != own[name] else [])]
        if not others and cell["epochs"] != wanted[name, seed]:
            others = ["train.epochs"]
        if others:
            raise RecipeError(
                f"{path}: {name}, seed {seed} was trained with other settings than "
                f"{sweep.source} asks for: {', '.join(others)}. Remove its line from the file's "
                "cells to train it again."
            )
        known[name, seed] = {k: v for k, v in cell.items() if k != "facts"} | place
    return known
