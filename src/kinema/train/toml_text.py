"""Writes plain data as TOML (the standard library only reads it)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def to_toml(data: Mapping[str, Any]) -> str:
    """Tables of text, numbers, booleans, lists and inner tables as TOML text."""
    return "\n".join(_table(name, table) for name, table in data.items())


def _table(name: str, table: Mapping[str, Any]) -> str:
    lines = [f"[{_key(name)}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    bare = key.replace("-", "").replace("_", "")
    return key if bare.isascii() and bare.isalnum() else json.dumps(key, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A JSON string is a TOML string, but for one control character that JSON leaves bare.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(str(k))} = {_value(v)}" for k, v in value.items())
        return f"{{{inner}}}"
    if isinstance(value, Sequence):
        return f"[{', '.join(_value(item) for item in value)}]"
    raise TypeError(f"no TOML form for {type(value).__name__} {value!r}")
