"""Results of a sweep: means over the seeds, the underlying numbers, and results from elsewhere."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kinema.errors import KinemaError, RecipeError
from kinema.sweep.spec import MAIN_TEST, Sweep
from kinema.system.files import write_whole
from kinema.train.recipe import Recipe, changed_keys
from kinema.train.run_folder import FREE_ON_RESUME

FACTS = ("versions", "git_commit", "machine")

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


def summarize(sweep: Sweep, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summarizes a sweep as plain data for JSON.

    Args:
        sweep: The sweep.
        results: The results of its finished cells, at least one.

    Returns:
        title, seeds; `rows`: one for each variant with its model, parameters, MACs of one clip,
        median seconds of training and `tests`: by name the mean top-1 (0..1), its sample deviation
        over the seeds (None for one seed) and how many seeds; `recipe`: the settings of the first
        training; `cells`: every result; `facts`: versions, commits and machines of the cells.
    """
    facts: list[dict[str, Any]] = []
    cells = []
    for result in results:
        where = {key: result[key] for key in FACTS}
        if where not in facts:
            facts.append(where)
        cell = {key: value for key, value in result.items() if key not in FACTS}
        cells.append({**cell, "facts": facts.index(where)})
    return {
        "title": sweep.spec.title,
        "axis": sweep.spec.axis,
        "seeds": list(sweep.spec.seeds),
        "variants": {name: list(words) for name, words in sweep.spec.variants.items()},
        "motion": sweep.spec.motion,
        "test_sets": sweep.spec.tests,
        "quoted": None if sweep.spec.quoted is None else sweep.spec.quoted.model_dump(),
        "rows": _rows(sweep, cells),
        "recipe": sweep.cells[0].recipe.to_dict(),
        "facts": facts,
        "cells": cells,
    }


def write_summary(document: dict[str, Any], path: Path) -> None:
    """Writes the document, one line for each cell."""
    head = {key: value for key, value in document.items() if key != "cells"}
    lines = ",\n".join("    " + json.dumps(cell) for cell in document["cells"])
    text = json.dumps(head, indent=2).removesuffix("\n}") + f',\n  "cells": [\n{lines}\n  ]\n}}\n'
    write_whole(path, text)


def read_summary(path: Path) -> dict[str, Any]:
    """Reads the results file of a sweep.

    Raises:
        KinemaError: the file is not a results file.
    """
    if path.is_dir():
        raise KinemaError(f"{path} is a folder: give the file results.json of a sweep.")
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        document["rows"], document["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KinemaError(f"{path} is not the results file of a sweep: {error!r}.") from error
    return document


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
        # Each result with its versions, commit and machine, in place of their number.
        found = [
            {key: value for key, value in cell.items() if key != "facts"}
            | document["facts"][cell["facts"]]
            for cell in document["cells"]
        ]
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


def _rows(sweep: Sweep, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for variant in sweep.spec.variants:
        of_variant = [cell for cell in cells if cell["variant"] == variant]
        if not of_variant:
            continue
        first = of_variant[0]
        rows.append(
            {
                "variant": variant,
                "model": first["model"],
                "params": first["params"],
                "macs": first["macs"],
                "train_s": round(statistics.median(cell["train_s"] for cell in of_variant), 1),
                "tests": {
                    test: _mean([cell["tests"][test]["top1"] for cell in of_variant])
                    for test in (MAIN_TEST, *sweep.spec.tests)
                },
            }
        )
    return rows


def _mean(values: list[float]) -> dict[str, float | int | None]:
    return {
        "top1": statistics.fmean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "seeds": len(values),
    }
