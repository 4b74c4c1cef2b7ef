"""What holds a file, a camera or a thread, and gives it back at the end of a `with` block."""

from types import TracebackType
from typing import Protocol, Self


class Closing(Protocol):
    """A context manager for whoever has a `close`."""

    def close(self) -> None:
        """Gives back what is held; more than once does no harm."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
