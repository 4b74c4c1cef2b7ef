"""Recipes: what is read, what is refused and with which words."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kinema.errors import RecipeError
from kinema.models.placement import Part
from kinema.train.recipe import Recipe, changed_keys, load_recipe, recipe_from, to_toml
from kinema.train.settings import (
    AdamWSettings,
    ConstantSettings,
    CosineSettings,
    MultistepSettings,
    SGDSettings,
)
from kinema.values import Views

TEXT = """\
# A whole recipe
[model]
backbone = "resnet18"
temporal = "tim"
frames = 4
stages = [4, 5]
options = {init = "identity"}

[data]
train = "train.csv"
val = "val.csv"

[optimizer]
name = "sgd"
lr = 1
classifier_lr_mult = 5

[schedule]
name = "multistep"
milestones = [30, 40, 45]

[train]
epochs = 50
clip_norm = 20.0
"""

MINIMAL: dict[str, Any] = {
    "model": {"name": "tsn_resnet18"},
    "data": {"train": "a.csv", "val": "b.csv"},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)


def edited(path: Path, old: str, new: str) -> Path:
    assert old in TEXT
    path.write_text(TEXT.replace(old, new), encoding="utf-8")
    return path


def test_values_and_defaults(file: Path) -> None:
    recipe = load_recipe(file)
    assert recipe.model.stages == (4, 5)
    assert recipe.model.options == {"init": "identity"}
    assert recipe.data.train == Path("train.csv")
    assert recipe.optimizer == SGDSettings(lr=1.0, classifier_lr_mult=5.0)
    assert recipe.schedule == MultistepSettings(milestones=(30, 40, 45))
    assert recipe.train.clip_norm == 20
    assert recipe.train.seed == 0
    assert recipe.evaluation.views.count == 1


def test_full_settings_read_back_the_same(file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(
        file, ["model.blocks={4 = [0], 5 = [1, 0]}", "train.ema_decay=0.99", "model.at=none"]
    )
    again = tmp_path / "again.toml"
    again.write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(again) == recipe
    assert "weight_decay" in recipe.to_toml()
    assert recipe.model.blocks == {4: (0,), 5: (1, 0)}


PARTS = """[
    {module = "tim", at = "before_conv1"},
    {module = "sme", at = "after_conv2", stages = [4], blocks = {4 = [0]}, options = {pyramid = 2}},
]"""


def with_parts(path: Path, parts: str = PARTS) -> Path:
    return edited(path, 'temporal = "tim"', f"parts = {parts}")


def test_parts_have_their_own_placements(file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(with_parts(file), ["model.options={}"])
    assert recipe.model.parts == (
        Part("tim", at="before_conv1"),
        Part("sme", at="after_conv2", stages=[4], blocks={4: [0]}, options={"pyramid": 2}),
    )
    again = tmp_path / "again.toml"
    again.write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(again) == recipe
    other = load_recipe(again, ['model.parts=[{module = "tim", at = "before_conv1"}]'])
    assert changed_keys(recipe, other) == ["model.parts"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ('[{module = "tim"}, {modul = "me"}]', "unknown key 'model.parts[1].modul'. Did you mean"),
        ('[{at = "a"}]', "'model.parts[0].module' is missing."),
        ('[{module = "tim", at = 3}]', "'model.parts[0].at': input should be a valid string, got"),
        ("[]", "parts is empty: list a module, or leave it out for a plain backbone."),
        ('"tim"', "'model.parts': input should be a valid array, got 'tim'."),
    ],
)
def test_wrong_parts_are_named(file: Path, parts: str, message: str) -> None:
    found = refused(with_parts(file, parts))
    assert message in found
    assert found.startswith(f"{file}, line {2 if 'empty' in message else 4}: ")
    word = f"model.parts={parts}"
    with pytest.raises(RecipeError, match=re.escape(f"command line ({word})")):
        recipe_from(MINIMAL | {"model": {"backbone": "resnet18"}}, source="test", overrides=[word])


def test_parts_take_the_place_of_temporal(file: Path) -> None:
    word = 'model.parts=[{module = "tim"}]'
    assert "give either temporal or parts: parts lists all" in refused(file, word)
    with pytest.raises(RecipeError, match="parts goes with backbone; a name already says"):
        recipe_from(MINIMAL, source="test", overrides=[word])


def test_command_line_comes_last(file: Path) -> None:
    recipe = load_recipe(
        file,
        [
            "train.epochs=3",
            "optimizer.lr=1e-3",
            "data.train=lists/other.csv",
            "model.options.init=random",
            "schedule.milestones=[1, 2]",
            "train.clip_norm=none",
            "train.compile=true",
        ],
    )
    assert recipe.train.epochs == 3
    assert recipe.optimizer.lr == 1e-3
    assert recipe.data.train == Path("lists/other.csv")
    assert recipe.model.options == {"init": "random"}
    assert recipe.schedule == MultistepSettings(milestones=(1, 2))
    assert recipe.train.clip_norm is None
    assert recipe.train.compile


@pytest.mark.parametrize(
    ("word", "wanted"), [("true", True), ("false", False), ("max-autotune", "max-autotune")]
)
def test_compiling_is_on_off_or_a_mode(file: Path, word: str, wanted: bool | str) -> None:
    recipe = load_recipe(file, [f"train.compile={word}", "train.fused_optimizer=auto"])
    assert recipe.train.compile == wanted
    assert recipe.train.fused_optimizer == "auto"
    assert "reduce-overhead" in refused(file, "train.compile=fast")
    assert "train.fused_optimizer" in refused(file, "train.fused_optimizer=maybe")


def test_compiling_and_checkpointing_exclude_each_other(file: Path) -> None:
    message = refused(file, "train.compile=true", "train.activation_checkpointing=true")
    assert "compile and activation_checkpointing exclude each other" in message


def test_overrides_leave_the_callers_tables_alone() -> None:
    options = {"init": "random"}
    data = {
        "model": {"name": "tim_resnet18", "options": options},
        "data": {"train": "a.csv", "val": "b.csv"},
    }
    before = copy.deepcopy(data)
    words = ["model.options.init=identity", "model.frames=4", "train.epochs=3"]
    recipe = recipe_from(data, source="here", overrides=words)
    assert recipe.model.options == {"init": "identity"}
    assert data == before
    assert data["model"]["options"] is options


def test_command_line_changes_a_section_the_file_leaves_out() -> None:
    recipe = recipe_from(
        MINIMAL, source="test", overrides=["optimizer.lr=0.5", "schedule.warmup_epochs=1"]
    )
    assert recipe.optimizer == SGDSettings(lr=0.5)
    assert recipe.schedule == ConstantSettings(warmup_epochs=1.0)
    other = recipe_from(MINIMAL, source="test", overrides=["optimizer.name=adamw"])
    assert other.optimizer == AdamWSettings()


def test_variants_by_name() -> None:
    recipe = recipe_from(
        MINIMAL | {"optimizer": {"name": "adamw", "lr": 0.1}, "schedule": {"name": "cosine"}},
        source="test",
    )
    assert recipe.optimizer == AdamWSettings(lr=0.1)
    assert recipe.schedule == CosineSettings()


def test_settings_are_frozen() -> None:
    recipe = recipe_from(MINIMAL, source="test")
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train.epochs = 3  # type: ignore[misc]


def test_misspelled_key_names_file_line_and_nearest_key(file: Path) -> None:
    message = refused(edited(file, "clip_norm", "clip_nrom"))
    assert message == (f"{file}, line 24: unknown key 'train.clip_nrom'. Did you mean 'clip_norm'?")


def test_misspelled_key_of_a_variant(file: Path) -> None:
    message = refused(file, "schedule.min_lr=0.1")
    assert message.startswith("command line (schedule.min_lr=0.1): unknown key 'schedule.min_lr'.")
    message = refused(edited(file, "lr = 1", "lr = 1\nmomentun = 0.9"))
    assert "unknown key 'optimizer.momentun'. Did you mean 'momentum'?" in message


def test_misspelled_section(file: Path) -> None:
    message = refused(edited(file, "[optimizer]", "[optimzer]"))
    assert f"{file}, line 13: unknown key 'optimzer'. Did you mean 'optimizer'?" in message


def test_misspelled_augmentation_key() -> None:
    with pytest.raises(RecipeError, match=r"test: unknown key 'augmentation.zzz'. Valid are: "):
        recipe_from(MINIMAL | {"augmentation": {"zzz": 1}}, source="test")


def test_misspelled_override_names_the_command_line(file: Path) -> None:
    assert refused(file, "train.epoch=3") == (
        "command line (train.epoch=3): unknown key 'train.epoch'. Did you mean 'epochs'?"
    )


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("train.epochs=many", "'train.epochs': input should be a valid integer, got 'many'."),
        ("train.epochs='3'", "'train.epochs': input should be a valid integer, got '3'."),
        ("train.epochs=2.5", "'train.epochs': input should be a valid integer"),
        ("train.epochs=0", "'train.epochs': input should be greater than 0, got 0."),
        ("train.epochs=none", "'train.epochs': input should be a valid integer, got None."),
        ("train.compile=1", "'train.compile': input should be a valid boolean, got 1."),
        ("optimizer.lr=-1", "'optimizer.lr': input should be greater than 0, got -1."),
        ("optimizer.lr=nan", "'optimizer.lr': input should be a finite number"),
        ("model.dropout=1.0", "'model.dropout': input should be less than 1, got 1.0."),
        ("train.precision=16", "'train.precision': input should be '32' or 'bf16', got 16."),
        ("train.devices=two", "'train.devices': input should be 'auto', got 'two'."),
        ("optimizer.name=sdg", "unknown optimizer.name 'sdg'. Did you mean 'sgd'?"),
        ("data.format=cvs", "unknown format 'cvs'. Did you mean 'csv'?"),
        ("schedule.milestones=[2, 1]", "milestones must be in ascending order, got [2.0, 1.0]."),
        ("model.name=tsn_resnet18", "give either name or backbone"),
        ("preprocessing.crop_px=300", "crop_px (300) must be between 1 and short_side_px (256)."),
        ("train=3", "expected section.key=value (such as train.epochs=10), got 'train=3'."),
        ("train.epochs", "expected section.key=value"),
        ("train.epochs.first=3", "train.epochs is a value, not a table."),
    ],
)
def test_wrong_values_are_named(file: Path, override: str, wanted: str) -> None:
    message = refused(file, override)
    assert wanted in message
    assert "command line" in message


def test_twice_sample_is_a_setting_of_the_validation(file: Path) -> None:
    words = ["evaluation.clips=2", "evaluation.twice_sample=true"]
    assert load_recipe(file, words).evaluation.views == Views(clips=2, twice_sample=True)
    message = refused(file, *words, "preprocessing.sampling=dense")
    assert "twice_sample is for segments, but this network samples a dense window" in message
    assert "twice_sample is for two clips, got clips=1" in refused(file, words[1])


def test_the_preprocessing_of_a_publisher_is_a_setting(file: Path) -> None:
    words = ["sampling=interval", "resize=opencv", "average=probs"]
    recipe = load_recipe(file, overrides=[f"preprocessing.{word}" for word in words])
    how = recipe.preprocessing.build(frames=8, mean=(0, 0, 0), std=(1, 1, 1))
    assert (how.sampling, how.resize, how.average) == ("interval", "opencv", "probs")
    with pytest.raises(RecipeError, match="average"):
        load_recipe(file, overrides=["preprocessing.average=prob"])


def test_wrong_type_in_the_file_names_its_line(file: Path) -> None:
    message = refused(edited(file, "epochs = 50", 'epochs = "50"'))
    assert message == f"{file}, line 23: 'train.epochs': input should be a valid integer, got '50'."


def test_missing_settings_are_named(file: Path) -> None:
    assert "'data.val' is missing." in refused(edited(file, 'val = "val.csv"\n', ""))
    assert "'schedule.milestones' is missing." in refused(
        edited(file, "milestones = [30, 40, 45]\n", "")
    )
    message = refused(edited(file, 'name = "sgd"\n', ""))
    assert "'optimizer.name' is missing. Valid are: adamw, sgd." in message


def test_missing_file_names_a_near_one(file: Path) -> None:
    message = refused(file.with_name("recipy.toml"))
    assert re.match(
        r"There is no recipe file .*recipy\.toml\. Did you mean 'recipe\.toml'\?", message
    )


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_recipes_of_the_package_are_found_from_any_folder(elsewhere: Path) -> None:
    assert load_recipe("recipes/motion.toml").model.backbone == "resnet18"


def test_a_recipe_of_the_user_goes_before_one_of_the_package(elsewhere: Path, file: Path) -> None:
    (elsewhere / "recipes").mkdir()
    file.rename(elsewhere / "recipes" / "motion.toml")
    assert load_recipe("recipes/motion.toml").model.options == {"init": "identity"}


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("recipes/motoin.toml", "Did you mean 'motion.toml'?"),
        ("recipes/papers/tea_kinetics.toml", "Did you mean 'tea_kinetics400.toml'?"),
        ("own_videos.toml", "Did you mean 'recipes/own_videos.toml'?"),
        ("no/such/folder.toml", "Valid are: recipes/motion.toml, recipes/own_videos.toml, "),
    ],
)
def test_missing_file_names_one_of_the_package(elsewhere: Path, path: str, meant: str) -> None:
    assert f"There is no recipe file {path}. {meant}" in refused(Path(path))


def test_broken_toml_names_the_line(file: Path) -> None:
    message = refused(edited(file, "lr = 1", "lr = = 1"))
    assert f"{file} is not valid TOML" in message
    assert "line 15" in message


def test_values_that_are_no_settings(file: Path) -> None:
    assert "a recipe cannot hold this value" in refused(edited(file, "lr = 1", "lr = 2020-01-01"))


def test_changed_keys_of_two_recipes(file: Path) -> None:
    old, new = load_recipe(file), load_recipe(file, ["train.seed=1", "train.clip_norm=none"])
    assert changed_keys(old, new) == ["train.clip_norm", "train.seed"]
    assert changed_keys(old, load_recipe(file)) == []


def test_recipe_needs_a_network() -> None:
    with pytest.raises(RecipeError, match="temporal goes with backbone"):
        recipe_from(MINIMAL | {"model": {"name": "a", "temporal": "tim"}}, source="test")
    assert isinstance(recipe_from(MINIMAL, source="test"), Recipe)


def test_toml_text_of_odd_values() -> None:
    text = to_toml({"a b": {"q": 'say "hi"\n', "on": True, "n": [1, 2.5, "x"], "t": {"k-1": {}}}})
    assert text == (
        '["a b"]\nq = "say \\"hi\\"\\n"\non = true\nn = [1, 2.5, "x"]\nt = {k-1 = {}}\n'
    )
    with pytest.raises(TypeError, match="no TOML form for object"):
        to_toml({"a": {"b": object()}})
