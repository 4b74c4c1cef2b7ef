"""Base of objects that release a file, camera or thread at the end of a `with` block."""

from typing import Protocol, Self


class Closing(Protocol):
    """Context manager that calls `close` at the end."""

    def close(self) -> None:
        """Releases the resource; may be called more than once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
