"""Features of videos as a file: .npz of numpy, or Parquet.

Letters: n videos, D features.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.errors import OptionError, missing_extra
from kinema.system.files import whole_file
from kinema.system.text import as_text

SUFFIXES = (".npz", ".parquet")


def check_feature_file(out: Path) -> None:
    """Raises an error for a name or format that cannot be written, before any work.

    Raises:
        OptionError: the name has another suffix.
        MissingExtraError: the format needs a package that is not installed.
    """
    if out.suffix not in SUFFIXES:
        raise OptionError(f"expected a file name ending in {' or '.join(SUFFIXES)}, got {out}")
    if out.suffix == ".parquet":
        _parquet()


def write_features(out: Path, paths: Sequence[str], features_nD: NDArray[np.float32]) -> None:
    """Writes paths (n,) and features (n, D): arrays of these names, or columns path and features.

    Names that are not UTF-8 have escapes in Parquet.
    """
    check_feature_file(out)
    with whole_file(out) as partial, partial.open("wb") as file:
        if out.suffix == ".npz":
            np.savez(file, paths=np.array(paths), features=features_nD)
            return
        pa, pq = _parquet()
        rows = pa.FixedSizeListArray.from_arrays(features_nD.reshape(-1), features_nD.shape[1])
        pq.write_table(pa.table({"path": list(map(as_text, paths)), "features": rows}), file)


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise missing_extra("Writing Parquet", error.name, "parquet") from error
    return pa, pq
