"""Every recipe parses, and trains two steps on made-up videos."""

from pathlib import Path

import pytest

from kinema.models.saved import load_saved
from kinema.train.loop import train
from kinema.train.recipe import load_recipe

RECIPES = sorted(
    (Path(__file__).resolve().parents[2] / "src" / "kinema" / "recipes").glob("*.toml")
)


def test_there_are_recipes():
    assert {"quickstart", "own_videos", "small_sets", "motion"} <= {path.stem for path in RECIPES}


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_two_steps(path, two_steps, tmp_path):
    result = train(load_recipe(path, two_steps), out=tmp_path / "run", quiet=True)
    assert result.epochs == 1
    assert 0 < result.history[0].loss < 10


@pytest.mark.slow
def test_two_steps_with_a_temporal_pool(two_steps, tmp_path):
    (path,) = (path for path in RECIPES if path.stem == "motion")
    words = ["model.temporal_pool=true", "train.activation_checkpointing=true"]
    recipe = load_recipe(path, [*two_steps, *words])
    result = train(recipe, out=tmp_path / "run", quiet=True)
    assert 0 < result.history[0].loss < 10
    assert load_saved(tmp_path / "run" / "last").net.spec.temporal_pool
