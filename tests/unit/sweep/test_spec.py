"""Sweep files: every mistake shows before any training."""

from pathlib import Path

import pytest

from kinema.errors import OptionError, RecipeError
from kinema.sweep.spec import load_sweep

from .files import RECIPE

SWEEP = """\
title = "Which one?"
recipe = "recipe.toml"
seeds = [0, 5]

[motion]
size_px = 32

[variants]
TSN = ["model.temporal=tsn"]
"TSM, long" = ["model.temporal=tsm", "train.epochs=7"]

[tests.shaky]
camera = 1.0
"""


def written(folder: Path, sweep: str = SWEEP) -> Path:
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    file = folder / "sweep.toml"
    file.write_text(sweep, encoding="utf-8")
    return file


def test_every_seed_trains_every_variant_with_its_settings(tmp_path: Path) -> None:
    plan = load_sweep(written(tmp_path), out=tmp_path / "out", overrides=["train.epochs=2"])
    assert [(c.variant, c.seed) for c in plan.cells] == [
        ("TSN", 0),
        ("TSM, long", 0),
        ("TSN", 5),
        ("TSM, long", 5),
    ]
    assert [c.recipe.train.epochs for c in plan.cells[:2]] == [2, 7]
    assert plan.cells[3].recipe.model.temporal == "tsm"
    assert plan.cells[3].recipe.train.seed == 5
    assert len({c.run for c in plan.cells}) == 4
    videos = tmp_path / "out" / "videos"
    assert plan.cells[0].recipe.data.train == videos / "val" / "train.csv"
    assert plan.motion[videos / "shaky"].camera == 1
    assert plan.motion[videos / "shaky"].size_px == plan.motion[videos / "val"].size_px == 32


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("seeds = [0, 5]", "seeds = [0, 0]", "different whole numbers"),
        ("title", "titel", "unknown key 'titel'. Did you mean 'title'"),
        ('"TSM, long"', '"TSM/long"', "no slashes"),
        (
            "model.temporal=tsn",
            "model.temporl=tsn",
            "sweep.toml, variant 'TSN': .* unknown key 'model.temporl'",
        ),
        ("[motion]\nsize_px = 32", "", "changes of \\[motion\\], which is missing"),
        ("[tests.shaky]", "[tests.val]", "the recipe's own validation set"),
        ("[tests.shaky]", '[quoted]\nsource = "A"\ntop1 = { TSX = 1.0 }\n[tests.a]', "no 'TSX'"),
        ("title", "title title", "not valid TOML"),
        (
            "train.epochs=7",
            "train.seed=7",
            "set the seeds of a sweep in its `seeds`, not in train.seed=7",
        ),
        (
            "train.epochs=7",
            "train.keep=best",
            "variant 'TSM, long': train.keep is .best.",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    file = written(tmp_path, SWEEP.replace(before, after))
    with pytest.raises(RecipeError, match=message):
        load_sweep(file, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "message"),
    [("camera = 3.0", "camera must be between 0 and 1"), ("zoom = 1", "zoom")],
)
def test_mistakes_in_motion_sets_are_named(tmp_path: Path, line: str, message: str) -> None:
    file = written(tmp_path, SWEEP.replace("camera = 1.0", line))
    with pytest.raises(OptionError, match=message):
        load_sweep(file, out=tmp_path / "out")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no sweep file .*nowhere.toml. Valid are: recipes/sw"):
        load_sweep(tmp_path / "nowhere.toml", out=tmp_path)


def test_the_sweeps_that_come_with_the_recipes_load(tmp_path: Path) -> None:
    files = sorted(Path(__file__).parents[3].glob("src/kinema/recipes/sweeps/*.toml"))
    assert files
    for file in files:
        assert load_sweep(file, out=tmp_path).cells


def test_sweeps_of_the_package_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = load_sweep("recipes/sweeps/tei_parts.toml", out="out")
    assert {cell.recipe.model.backbone for cell in sweep.cells} == {"resnet18"}
