"""Every recipe parses, and trains two steps on made-up videos."""

from pathlib import Path

import pytest

from kinema.models.saved import load_saved
from kinema.synthetic.motion_set import MotionSettings, render_motion_set
from kinema.train.loop import train
from kinema.train.recipe import load_recipe

RECIPES = sorted(
    (Path(__file__).resolve().parents[2] / "src" / "kinema" / "recipes").glob("*.toml")
)


@pytest.fixture(scope="module")
def motion(tmp_path_factory) -> Path:
    settings = MotionSettings(train_per_class=1, val_per_class=1, size_px=32, max_frames=24)
    return render_motion_set(tmp_path_factory.mktemp("recipes"), settings=settings, workers=0)


def test_there_are_recipes():
    assert {"quickstart", "own_videos", "small_sets", "motion"} <= {path.stem for path in RECIPES}


def tiny(path, motion, *words):
    return load_recipe(
        path,
        [
            "data.format=csv",
            f"data.train={motion / 'train.csv'}",
            f"data.val={motion / 'val.csv'}",
            f"data.root={motion / 'videos'}",
            f"data.classes={motion / 'classes.txt'}",
            "data.workers=0",
            "model.weights=none",
            "preprocessing.short_side_px=40",
            "preprocessing.crop_px=32",
            "schedule.warmup_epochs=0",
            "train.epochs=1",
            "train.batch_size=7",
            "train.log_every_steps=1",
            *words,
        ],
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_two_steps(path, motion, tmp_path):
    result = train(tiny(path, motion), out=tmp_path / "run", quiet=True)
    assert result.epochs == 1
    assert 0 < result.history[0].loss < 10


@pytest.mark.slow
def test_two_steps_with_a_temporal_pool(motion, tmp_path):
    (path,) = (path for path in RECIPES if path.stem == "motion")
    words = ("model.temporal_pool=true", "train.activation_checkpointing=true")
    result = train(tiny(path, motion, *words), out=tmp_path / "run", quiet=True)
    assert 0 < result.history[0].loss < 10
    assert load_saved(tmp_path / "run" / "last").net.spec.temporal_pool
