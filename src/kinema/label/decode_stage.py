"""What the decoders do: paths to views, Arrow tables in and out.

There are many of them, so this loads neither PyTorch nor a network. Letters: V views, T frames.
"""

from pathlib import Path
from typing import Any

from kinema.data.closing import Closing
from kinema.data.isolated import DecodeOrder, IsolatedDecoder
from kinema.errors import UnreadableVideoError
from kinema.label.arrow import pa
from kinema.label.names import as_text, file_of

# Videos on their way to a decoder: their place in the job, which never reaches the output.
PENDING_SCHEMA = pa.schema([("number", pa.int64()), ("path", pa.string())])
_VIEWS_SCHEMA = pa.schema(
    [*PENDING_SCHEMA, ("views", pa.large_binary()), ("error", pa.string())],
)


class DecodeStage(Closing):
    """Paths to views, one video after another.

    Args:
        root: Folder that relative paths start from.
        order: What is wanted of every video.
    """

    def __init__(self, root: str, order: DecodeOrder) -> None:
        self._root = Path(root)
        self._decoder = IsolatedDecoder(order)

    def __call__(self, todo: Any) -> Any:
        """Adds the columns views (V*T*3*H*W bytes, or null) and error."""
        read = [self._views(path) for path in todo["path"].to_pylist()]
        columns = {
            "number": todo["number"],
            "path": todo["path"],
            "views": pa.array([views for views, _ in read], pa.large_binary()),
            "error": pa.array([error for _, error in read], pa.string()),
        }
        return pa.table(columns, schema=_VIEWS_SCHEMA)

    def close(self) -> None:
        """Ends the decoder."""
        self._decoder.close()

    def _views(self, path: str) -> tuple[bytes | None, str | None]:
        try:
            return self._decoder.read(file_of(self._root, path)).tobytes(), None
        except UnreadableVideoError as error:
            return None, as_text(str(error))
