"""Atomic file writes, and write errors that name the file, the reason and the fix."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kinema.errors import KinemaError, OutputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path that replaces the file at the end of the block.

    Creates the folder if needed. An older file stays until the new one is complete, even in a
    power failure. A killed process may leave the temporary file, which the next write replaces.

    Raises:
        OutputError: it cannot be written; the message names it, the reason and what to do.
    """
    partial = partial_of(path)
    with naming_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
            sync_folder(path.parent)
        finally:
            with suppress(OSError):
                partial.unlink()


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file atomically; text as UTF-8.

    Raises:
        OutputError: it cannot be written.
    """
    with whole_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def partial_of(path: Path) -> Path:
    """Path of a file while it is incomplete."""
    return path.with_name(f".{path.name}.part")


def is_unused(folder: Path, *, first: Path) -> bool:
    """Checks whether a folder is free for new content, whose file `first` is written first.

    True if it does not exist, is empty, or holds only the partial `first` of a killed process.
    """
    return not folder.exists() or (
        folder.is_dir() and all(entry == partial_of(first) for entry in folder.iterdir())
    )


@contextmanager
def naming_write_errors(path: Path) -> Iterator[None]:
    """Turns a failed write into an OutputError that names the file, the reason and the fix.

    Raises:
        OutputError: the system refused the write, even if a library raised an error of its own.
    """
    try:
        yield
    except KinemaError:
        raise
    except Exception as error:  # libraries raise errors of their own for a full disk
        cause = _refusal(error)
        if cause is None:
            raise
        raise OutputError(
            f"{path} cannot be written: {cause}. The previous file is kept. Free some space or "
            "choose a writable folder, then try again."
        ) from error


def _refusal(error: BaseException) -> str | None:
    """Returns the system's reason for a failed write; None if that is not the cause.

    PyTorch raises its own error while handling the system's; the error of safetensors only quotes
    it.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError):
            text = found.strerror or str(found)
            return text[:1].lower() + text[1:]
        found = found.__cause__ or found.__context__
    _, mark, words = str(error).partition("I/O error: ")
    if not mark:
        return None
    return words[:1].lower() + words[1:].split(" (os error")[0]


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable across a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
