"""pyarrow's parts, or the error that names the extra."""

from kinema.errors import missing_extra

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise missing_extra("Labeling an archive", error.name, "ray") from error

__all__ = ["pa", "pc", "pq"]
