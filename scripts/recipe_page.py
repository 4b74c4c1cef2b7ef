"""Writes docs/reference/recipe.md: every setting of a recipe with its default and its meaning.

Run it after changing a setting: `python scripts/recipe_page.py`. A test compares the page with
what this makes.
"""

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from kinema.train.recipe import Recipe

TARGET = Path(__file__).resolve().parents[1] / "docs" / "reference" / "recipe.md"

# What stands where a settings class does not explain a key; a test wants none.
UNEXPLAINED = "not explained"

HEAD = """# Recipes

Made by `python scripts/recipe_page.py` from the settings themselves. A recipe is a TOML file: data,
no code. An unknown key or a wrong type is an error that names file and line. What a recipe leaves
out has the default below; `kinema train RECIPE section.key=value` changes a setting for one run,
and `section.key=none` takes an optional one out. Every run writes all of its settings to
`recipe.toml` in its folder, which is a recipe again. `recipes/own_videos.toml` is one to start
from, `recipes/papers/` holds those of the papers. A path that begins with `recipes/` means the file
below the folder you stand in or, where there is none, the one that comes with kinema.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD.strip()]
    for name, field in Recipe.model_fields.items():
        for settings in _classes(field.annotation):
            parts += [f"## {_title(name, settings)}", _section(settings)]
    return "\n\n".join(parts) + "\n"


def _classes(annotation: Any) -> tuple[type, ...]:
    """The settings class of a section, or the classes that it may be."""
    return (annotation,) if isinstance(annotation, type) else get_args(annotation)


def _title(section: str, settings: type) -> str:
    name = getattr(settings, "model_fields", {}).get("name")
    choice = f", name = {json.dumps(name.default)}" if name is not None and name.default else ""
    return f"\\[{section}\\]{choice}"


def _section(settings: type) -> str:
    about, texts = _docstring(settings)
    lines = [
        f"- `{key}`{_default(default)}{_choices(annotation)}: {texts.get(key, UNEXPLAINED)}"
        for key, annotation, default in _keys(settings)
        if key != "name" or default is None  # the others stand in the heading
    ]
    return "\n\n".join([*([about] if about else []), "\n".join(lines)])


def _keys(settings: type) -> Iterator[tuple[str, Any, Any]]:
    """Key, type and default; the default is `...` where the recipe has to have the key."""
    if issubclass(settings, BaseModel):
        for key, field in settings.model_fields.items():
            yield key, field.annotation, ... if field.is_required() else field.get_default()
    else:
        for part in dataclasses.fields(settings):
            yield part.name, part.type, part.default


def _docstring(settings: type) -> tuple[str, dict[str, str]]:
    """The words before "Attributes:", and the text of each key, those of the base class too."""
    texts: dict[str, str] = {}
    for parent in reversed(settings.__mro__):
        _, _, attributes = inspect.cleandoc(parent.__doc__ or "").partition("Attributes:\n")
        for key, text in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, flags=re.M):
            texts[key] = " ".join(text.split())
    about = inspect.cleandoc(settings.__doc__ or "").partition("Attributes:\n")[0]
    first = re.sub(r"^\[\w+\](?: name = \S+)?[.:] ?", "", about)
    return first[:1].upper() + first[1:].strip(), texts


def _default(value: Any) -> str:
    if value is ...:
        return " (required)"
    if value is None:
        return ""
    return f" = `{json.dumps(value)}`"


def _choices(annotation: Any) -> str:
    words = [json.dumps(word) for word in _literals(annotation)]
    return f" ({', '.join(words)})" if len(words) > 1 else ""


def _literals(annotation: Any) -> Iterator[Any]:
    for part in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield part
        else:
            yield from _literals(part)


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
