"""pyarrow's parts, or the error that names the extra."""

from kinema.errors import MissingExtraError

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise MissingExtraError(
        f"Labeling an archive needs {error.name}, which is not installed: "
        'python -m pip install "kinema[ray]"'
    ) from error

__all__ = ["pa", "pc", "pq"]
