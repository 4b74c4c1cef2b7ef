"""Files that are there whole or not at all, and errors that name them when writing fails."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kinema.errors import KinemaError, OutputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives the path to write to, which takes the name of the file at the end of the block.

    Its folder is made where there is none.
    An older file stays until then, even in a power cut; nothing half-written is left behind,
    except by a process that is killed, and that is overwritten by the next one.

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
    """Writes a file that holds all of `content`, or leaves the old one; text as UTF-8.

    Raises:
        OutputError: it cannot be written.
    """
    with whole_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def partial_of(path: Path) -> Path:
    """Where a file lies until it is whole."""
    return path.with_name(f".{path.name}.part")


def is_unused(folder: Path, *, first: Path) -> bool:
    """Whether a folder is free for something new, whose `first` file is written there first.

    It is not there, or empty, or has only what is left of that file by a process that was killed.
    """
    return not folder.exists() or (
        folder.is_dir() and all(entry == partial_of(first) for entry in folder.iterdir())
    )


@contextmanager
def naming_write_errors(path: Path) -> Iterator[None]:
    """Turns a failure to write into an error that names the file, the reason and what to do.

    Raises:
        OutputError: the system refused, also where a library calls it by another name.
    """
    try:
        yield
    except KinemaError:
        raise
    except Exception as error:  # libraries have errors of their own for a full disk; others pass
        cause = _refusal(error)
        if cause is None:
            raise
        raise OutputError(
            f"{path} cannot be written: {cause}. What was there before is kept. Make room or "
            "choose a place that can be written, then start again."
        ) from error


def _refusal(error: BaseException) -> str | None:
    """The system's words for why it did not write; None if that is not what happened.

    PyTorch raises its own error while the system's is being handled; that of safetensors holds
    only its words.
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
    """Makes the renaming of files in a folder last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
