"""pyarrow with an error that names the extra, and file names as Arrow text.

Arrow and Parquet hold UTF-8 only, while a file system holds any bytes.
"""

import os
import re
from pathlib import Path

from kinema.errors import missing_extra
from kinema.system.text import as_text

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise missing_extra("Labeling an archive", error.name, "ray") from error

__all__ = ["as_text", "file_of", "pa", "pc", "pq"]

_ESCAPE = re.compile(rb"\\x([89a-f][0-9a-f])")


def file_of(root: Path, name: str) -> Path:
    """Returns the file of a name, in which escapes by `as_text` are undone.

    A file whose name really contains such letters takes precedence.
    """
    file = root / name
    if "\\x" not in name or os.path.exists(file):
        return file
    raw = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(name))
    return root / os.fsdecode(raw)
