"""Results of a sweep from elsewhere: taken if the settings are the same, refused if not."""

import json
from pathlib import Path
from typing import Any

import pytest

from kinema.errors import KinemaError, RecipeError
from kinema.sweep.run import finished_results
from kinema.sweep.spec import Sweep, load_sweep
from kinema.sweep.summary import known_results, summarize, write_summary

from .files import RECIPE

SWEEP = """\
title = "Which one?"
recipe = "recipe.toml"
seeds = [0, 1]

[motion]
size_px = 32

[variants]
TSN = ["model.temporal=tsn"]
TSM = ["model.temporal=tsm"]
"""


def plan(folder: Path, sweep: str = SWEEP, recipe: str = RECIPE, **changes: Any) -> Sweep:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    (folder / "sweep.toml").write_text(sweep, encoding="utf-8")
    return load_sweep(folder / "sweep.toml", out=folder / "out", **changes)


def result(variant: str, seed: int, commit: str = "abc") -> dict[str, Any]:
    return {
        "variant": variant,
        "seed": seed,
        "model": "a",
        "params": 1,
        "macs": 2,
        "epochs": 3,
        "train_s": 4.0,
        "tests": {"val": {"top1": 0.5}},
        "versions": {"kinema": "1"},
        "git_commit": commit,
        "machine": {"cpu": commit},
    }


def written(folder: Path, results: list[dict[str, Any]], **how: Any) -> Path:
    file = folder / "results.json"
    write_summary(summarize(plan(folder, **how), results), file)
    return file


def test_results_come_back_with_the_facts_of_their_machine(tmp_path: Path) -> None:
    found = [result("TSN", 0, "one"), result("TSM", 1, "two")]
    file = written(tmp_path / "there", found)
    here = plan(tmp_path / "here")
    known = known_results(here, file)
    assert known == {("TSN", 0): found[0], ("TSM", 1): found[1]}
    assert finished_results(here, known=known) == found


def test_a_part_of_a_sweep_is_taken_and_what_it_has_more_is_left_out(tmp_path: Path) -> None:
    part = SWEEP.replace('TSN = ["model.temporal=tsn"]', 'Other = ["optimizer.lr=0.3"]')
    file = written(tmp_path / "there", [result("Other", 0), result("TSM", 0)], sweep=part)
    here = plan(tmp_path / "here", SWEEP.replace("[0, 1]", "[0]"))
    assert list(known_results(here, file)) == [("TSM", 0)]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('["model.temporal=tsm"]', '["model.temporal=tam"]', "TSM, seed 0 .*: its settings"),
        ("size_px = 32", "size_px = 48", r"TSM, seed 0 .*: \[motion\]"),
        ("epochs = 3", "epochs = 4", "TSM, seed 0 .*: train.epochs. Remove its line"),
        ("[train]", "[train]\nbatch_size = 4", "train.batch_size"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, before: str, after: str, message: str) -> None:
    file = written(tmp_path / "there", [result("TSM", 0)])
    here = plan(tmp_path / "here", SWEEP.replace(before, after), RECIPE.replace(before, after))
    with pytest.raises(RecipeError, match=message):
        known_results(here, file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    here = plan(tmp_path / "here")
    with pytest.raises(KinemaError, match=r"nothing.json is not the results file of a sweep"):
        known_results(here, tmp_path / "nothing.json")
    damaged = written(tmp_path / "there", [result("TSM", 0)])
    damaged.write_text(damaged.read_text().replace('"facts": 0', '"facts": 7'))
    with pytest.raises(
        RecipeError, match=r"results.json was written by another version of kinema or is dam"
    ):
        known_results(here, damaged)
    file = tmp_path / "old.json"
    file.write_text(json.dumps({"rows": [], "cells": [], "recipe": {"modle": 1}}))
    with pytest.raises(RecipeError, match=r"old.json was written by another version of kinema"):
        known_results(here, file)
