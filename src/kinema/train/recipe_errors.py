"""Error messages of recipes: pydantic's findings with key, source, line and fix."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kinema.errors import did_you_mean

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


@dataclass
class Origin:
    """Source of settings, for error messages.

    Attributes:
        source: File name, or another name of the source.
        text: Text of the file, to find line numbers.
        overrides: Command-line words by dotted key.
    """

    source: str
    text: str = ""
    overrides: dict[str, str] = field(default_factory=dict)

    def of(self, path: Sequence[str]) -> str:
        """Returns the place where the key at `path` is set."""
        dotted = ".".join(path)
        for key, word in self.overrides.items():
            if dotted == key or dotted.startswith((key + ".", key + "[")):
                return f"command line ({word})"
        line = self._line(path) if path else None
        place = f"{self.source}, line {line}" if line else self.source
        inside = [
            w for key, w in self.overrides.items() if not path or key.startswith(dotted + ".")
        ]
        return f"{place} with command line ({' '.join(inside)})" if inside else place

    def _line(self, path: Sequence[str]) -> int | None:
        for depth, key in enumerate(path):
            if "[" in key:  # an item of a list: the line of the list
                path = [*path[:depth], key.partition("[")[0]]
                break
        table = ""
        for number, line in enumerate(self.text.splitlines(), start=1):
            if header := re.match(r"\s*\[([^\[\]]+)\]\s*(#.*)?$", line):
                table = header[1].replace(" ", "")
                if table == ".".join(path):
                    return number
            elif table == ".".join(path[:-1]) and re.match(rf"\s*{re.escape(path[-1])}\s*=", line):
                return number
        return None


def explain(
    error: ValidationError, recipe: type[BaseModel], data: Mapping[str, Any], origin: Origin
) -> str:
    """Describes each wrong setting in a line, unknown keys first: they often cause the others."""
    findings = sorted(error.errors(include_url=False), key=lambda e: e["type"] not in _UNKNOWN)
    lines = [_line(finding, recipe, data, origin) for finding in findings]
    return "\n".join(dict.fromkeys(lines))


def _line(
    finding: ErrorDetails, recipe: type[BaseModel], data: Mapping[str, Any], origin: Origin
) -> str:
    path = _path_in(finding["loc"], data)
    if finding["type"] == "missing":
        path.append(str(finding["loc"][-1]))
    place, dotted = origin.of(path), ".".join(path)
    if finding["type"] in _UNKNOWN:
        near = did_you_mean(path[-1], _keys(recipe, path[:-1], data))
        return f"{place}: unknown key {dotted!r}. {near}"
    if finding["type"] == "missing":
        return f"{place}: {dotted!r} is missing."
    if finding["type"] in ("union_tag_not_found", "union_tag_invalid"):
        names = sorted(_name_of(v) for v in _variants(recipe, path[0]))
        given = finding["input"].get("name") if isinstance(finding["input"], dict) else None
        if given is None:
            return f"{place}: '{dotted}.name' is missing. Valid are: {', '.join(names)}."
        place = origin.of([*path, "name"])
        return f"{place}: unknown {dotted}.name {given!r}. {did_you_mean(str(given), names)}"
    message = finding["msg"].removeprefix("Value error, ").rstrip(".")
    if finding["type"] == "value_error":
        return f"{place}: {dotted + ': ' if dotted else ''}{message}."
    wanted = message[:1].lower() + message[1:]
    return f"{place}: {dotted!r}: {wanted}, got {finding['input']!r}."


def _path_in(loc: Sequence[str | int], data: Mapping[str, Any]) -> list[str]:
    """Returns the keys of a finding as the user wrote them, without pydantic's union branches.

    An item of a list is written behind its key, such as "parts[0]".
    """
    path: list[str] = []
    here: Any = data
    for part in loc:
        if isinstance(here, Mapping) and part in here:
            path.append(str(part))
        elif isinstance(here, list) and isinstance(part, int):
            path[-1] += f"[{part}]"
        else:
            continue
        here = here[part]
    return path


def _variants(recipe: type[BaseModel], section: str) -> list[Any]:
    """Returns the settings classes of a section; several if its `name` selects one."""
    annotation = recipe.model_fields[section].annotation
    variants = get_args(annotation) or (annotation,)
    return [variant for variant in variants if variant is not type(None)]


def _name_of(variant: type[BaseModel]) -> str:
    return str(variant.model_fields["name"].default)


def _dataclass_in(annotation: Any) -> Any:
    """Returns the class of the items of an optional list."""
    while not dataclasses.is_dataclass(annotation):
        annotation = get_args(annotation)[0]
    return annotation


def _keys(recipe: type[BaseModel], path: Sequence[str], data: Mapping[str, Any]) -> list[str]:
    """Returns the valid keys of the table at `path`."""
    if not path:
        return list(recipe.model_fields)
    variants = _variants(recipe, path[0])
    chosen = variants[0]
    if len(variants) > 1:
        chosen = next(v for v in variants if _name_of(v) == data[path[0]]["name"])
    for key in path[1:]:
        chosen = _dataclass_in(chosen.model_fields[key.partition("[")[0]].annotation)
    if dataclasses.is_dataclass(chosen):
        return [f.name for f in dataclasses.fields(chosen) if f.init]
    return list(chosen.model_fields)
