"""A recipe: all settings of one training run, read from TOML and checked before anything starts.

Order: defaults, the recipe file, then `section.key=value` words of the command line. Recipes are
data: no code, no imports, no inheritance.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from kinema.data.transforms import Augmentation
from kinema.errors import RecipeError
from kinema.train.recipe_errors import Origin, explain
from kinema.train.recipe_files import find_recipe
from kinema.train.settings import (
    ConstantSettings,
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    OptimizerSettings,
    PreprocessingSettings,
    ScheduleSettings,
    Section,
    SGDSettings,
    TrainSettings,
)
from kinema.train.toml_text import to_toml
from kinema.types import IMAGENET_MEAN, IMAGENET_STD


class Recipe(Section):
    """The full settings of a training run; only [model] and [data] have no defaults."""

    model: ModelSettings
    data: DataSettings
    preprocessing: PreprocessingSettings = PreprocessingSettings()
    augmentation: Augmentation = Augmentation()
    optimizer: Annotated[OptimizerSettings, Field(discriminator="name")] = SGDSettings()
    schedule: Annotated[ScheduleSettings, Field(discriminator="name")] = ConstantSettings()
    train: TrainSettings = TrainSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        self.preprocessing.build(frames=self.model.frames, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        return self

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain data, `name` first; what is not set is left out."""
        plain = self.model_dump(mode="json")
        return {
            section: {
                key: table[key]
                for key in sorted(table, key=lambda key: key != "name")
                if table[key] is not None
            }
            for section, table in plain.items()
        }

    def to_toml(self) -> str:
        """The full effective settings as a recipe that `load_recipe` reads back."""
        return to_toml(self.to_dict())


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe file.

    Args:
        path: TOML file; recipes/NAME.toml may be one that comes with kinema.
        overrides: Words `section.key=value`; a value that is not TOML is taken as text, and
            `none` unsets the key.

    Raises:
        RecipeError: no such file, no TOML, an unknown key, a wrong type or value; the message
            names the key and where it stands.

    Example:
        >>> load_recipe("recipes/tsm.toml", ["train.epochs=10"])  # doctest: +SKIP
    """
    path = find_recipe(path)
    text = _read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not valid TOML: {error}.") from error
    return _build(data, Origin(str(path), text), overrides)


def recipe_from(data: Mapping[str, Any], *, source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Checks plain data as `load_recipe` does; `source` stands in the messages.

    Raises:
        RecipeError: an unknown key, a wrong type or value.
    """
    return _build(data, Origin(source), overrides)


def changed_keys(old: Recipe, new: Recipe) -> list[str]:
    """The dotted names of the settings in which two recipes differ, sorted."""
    before, after = _flat(old.to_dict()), _flat(new.to_dict())
    return sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not a text file in UTF-8: {error.reason}.") from error


def _build(data: Mapping[str, Any], origin: Origin, overrides: Sequence[str]) -> Recipe:
    merged = {
        key: dict(value) if isinstance(value, Mapping) else value for key, value in data.items()
    }
    for word in overrides:
        _apply(merged, word)
        origin.overrides[_split(word)[0]] = word
    for section in ("optimizer", "schedule"):
        if section in merged and section not in data:
            # Only the command line speaks of it: it means the default one.
            merged[section].setdefault("name", Recipe.model_fields[section].default.name)
    try:
        plain = json.dumps(merged)
    except TypeError as error:
        raise RecipeError(f"{origin.source}: a value has no place in a recipe: {error}.") from error
    try:
        return Recipe.model_validate_json(plain)
    except ValidationError as error:
        raise RecipeError(explain(error, Recipe, merged, origin)) from error


def _split(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    key = key.strip()
    if not equals or "." not in key or not all(key.split(".")):
        raise RecipeError(
            f"command line: expected section.key=value (such as train.epochs=10), got {word!r}."
        )
    return key, value.strip()


def _apply(data: dict[str, Any], word: str) -> None:
    """Sets one `section.key=value` in nested tables."""
    dotted, text = _split(word)
    *tables, key = dotted.split(".")
    table = data
    for depth, name in enumerate(tables):
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            raise RecipeError(
                f"command line ({word}): {'.'.join(tables[: depth + 1])} is a value, not a table."
            )
        table = inner
    table[key] = _value(text)


def _value(text: str) -> Any:
    if text == "none":
        return None
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if set(parsed) == {"value"} else text


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            rows |= _flat(value, f"{prefix}{key}.")
        else:
            rows[prefix + key] = value
    return rows
