"""A recipe: all settings of one training run, read from TOML and checked before anything starts.

Precedence, lowest first: defaults, the recipe file, `section.key=value` words of the command
line. Recipes are data: no code, no imports, no inheritance.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from kinema.data.sampling import sampling_of
from kinema.data.transforms import Augmentation
from kinema.errors import RecipeError, did_you_mean
from kinema.train.recipe_errors import Origin, explain
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
from kinema.values import IMAGENET_MEAN, IMAGENET_STD


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
    def _sizes_and_sampling_fit(self) -> Self:
        how = self.preprocessing.build(
            frames=self.model.frames, mean=IMAGENET_MEAN, std=IMAGENET_STD
        )
        sampling_of(how, self.evaluation.views)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain data, `name` first, without unset ones."""
        plain = _without_unset(self.model_dump(mode="json"))
        return {
            section: {key: table[key] for key in sorted(table, key=lambda key: key != "name")}
            for section, table in plain.items()
        }

    def to_toml(self) -> str:
        """Returns the full effective settings as a recipe file for `load_recipe`."""
        return to_toml(self.to_dict())


def _without_unset(value: Any) -> Any:
    """Plain data without None, for which TOML has no form."""
    if isinstance(value, list):
        return [_without_unset(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_unset(item) for key, item in value.items() if item is not None}
    return value


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe file.

    Args:
        path: TOML file; recipes/NAME.toml may be one of the package.
        overrides: Words `section.key=value`; a value that is not valid TOML is text, and `none`
            unsets the key.

    Raises:
        RecipeError: the file does not exist or is not TOML, or a key, type or value is wrong; the
            message names the key and its place.

    Example:
        >>> load_recipe("recipes/tsm.toml", ["train.epochs=10"])  # doctest: +SKIP
    """
    return _build(*read_toml(find_recipe(path)), overrides)


def recipe_from(data: Mapping[str, Any], *, source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Builds a recipe from plain data, checked as in `load_recipe`; messages name `source`.

    Raises:
        RecipeError: an unknown key, a wrong type or value.
    """
    return _build(data, Origin(source), overrides)


def changed_keys(old: Recipe, new: Recipe) -> list[str]:
    """Returns the sorted dotted names of the settings in which two recipes differ."""
    before, after = _flat(old.to_dict()), _flat(new.to_dict())
    return sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))


def read_toml(path: Path) -> tuple[dict[str, Any], Origin]:
    """Reads a recipe or sweep file, with its text for error messages.

    Raises:
        RecipeError: the file cannot be read or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text), Origin(str(path), text)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not a text file in UTF-8: {error.reason}.") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not valid TOML: {error}.") from error


def _build(data: Mapping[str, Any], origin: Origin, overrides: Sequence[str]) -> Recipe:
    merged = _copied(data)
    for word in overrides:
        origin.overrides[_apply(merged, word)] = word
    for section in ("optimizer", "schedule"):
        if section in merged and section not in data:
            # Set on the command line only: the section's default variant is meant.
            merged[section].setdefault("name", Recipe.model_fields[section].default.name)
    try:
        plain = json.dumps(merged)
    except TypeError as error:
        raise RecipeError(f"{origin.source}: a recipe cannot hold this value: {error}.") from error
    try:
        return Recipe.model_validate_json(plain)
    except ValidationError as error:
        raise RecipeError(explain(error, Recipe, merged, origin)) from error


def _copied(data: Mapping[str, Any]) -> dict[str, Any]:
    """Copies nested tables, so that overrides do not reach those of the caller."""
    return {
        key: _copied(value) if isinstance(value, Mapping) else value for key, value in data.items()
    }


def _apply(data: dict[str, Any], word: str) -> str:
    """Sets one `section.key=value` in nested tables; returns the dotted key."""
    dotted, equals, text = (part.strip() for part in word.partition("="))
    *tables, key = dotted.split(".")
    if not equals or not tables or not all((*tables, key)):
        raise RecipeError(
            f"command line: expected section.key=value (such as train.epochs=10), got {word!r}."
        )
    table = data
    for depth, name in enumerate(tables):
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            raise RecipeError(
                f"command line ({word}): {'.'.join(tables[: depth + 1])} is a value, not a table."
            )
        table = inner
    table[key] = _value(text)
    return dotted


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


SHIPPED = Path(str(files("kinema") / "recipes"))


def find_recipe(path: str | Path, kind: Literal["recipe", "sweep"] = "recipe") -> Path:
    """Resolves the path of a recipe file; recipes/NAME.toml works in every folder.

    Args:
        path: A file; if it does not exist and begins with recipes/, the file of the package.
        kind: Kind of file, for the error message.

    Raises:
        RecipeError: neither file exists.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        return path
    shipped = _shipped(path)
    if shipped is not None and shipped.is_file():
        return shipped
    folders = [path if path.is_dir() else path.parent, _shipped(path.parent)]
    near = [file.name for folder in folders if folder for file in folder.glob("*.toml")]
    if not near:
        folder = SHIPPED / "sweeps" if kind == "sweep" else SHIPPED
        near = [f"recipes/{file.relative_to(SHIPPED)}" for file in folder.glob("*.toml")]
    raise RecipeError(f"There is no {kind} file {path}. {did_you_mean(path.name, near)}")


def _shipped(path: Path) -> Path | None:
    return SHIPPED.joinpath(*path.parts[1:]) if path.parts[:1] == ("recipes",) else None


def to_toml(data: Mapping[str, Any]) -> str:
    """Formats plain data as TOML, which the standard library only reads."""
    return "\n".join(_table(name, table) for name, table in data.items())


def _table(name: str, table: Mapping[str, Any]) -> str:
    lines = [f"[{_key(name)}]"]
    lines += [f"{_key(key)} = {_toml_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    bare = key.replace("-", "").replace("_", "")
    return key if bare.isascii() and bare.isalnum() else json.dumps(key, ensure_ascii=False)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A JSON string is a valid TOML string, except for one control character that JSON keeps.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(str(k))} = {_toml_value(v)}" for k, v in value.items())
        return f"{{{inner}}}"
    if isinstance(value, Sequence):
        return f"[{', '.join(_toml_value(item) for item in value)}]"
    raise TypeError(f"no TOML form for {type(value).__name__} {value!r}")
