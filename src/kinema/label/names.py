"""Names of files as text: Arrow and Parquet hold UTF-8 only, a file system holds any bytes."""

import os
import re
from pathlib import Path

_ESCAPE = re.compile(rb"\\x([89a-f][0-9a-f])")


def as_text(name: str) -> str:
    r"""The name, or a message with it, with bytes that are not UTF-8 as escapes such as \xe9."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def file_of(root: Path, name: str) -> Path:
    """The file of a name that `as_text` may have made; one that has these very letters is first."""
    file = root / name
    if "\\x" not in name or os.path.exists(file):
        return file
    raw = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(name))
    return root / os.fsdecode(raw)
