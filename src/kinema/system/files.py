"""Atomic file writes, and write errors that name the file, the reason and the fix."""

import errno
import hashlib
import os
import re
import tempfile
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kinema.errors import KinemaError, OutputError

_LONG_BYTES = 64  # longer names have shorter temporary names
LOCK_FILE = ".lock"  # of folders that `kinema.system.folder_lock` locks
MOST_NAME_BYTES = 255  # of a file name, on all common file systems


@contextmanager
def whole_file(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yields a temporary path that replaces the file at the end of the block.

    Creates the folder if needed. An older file stays until the new one is complete, even in a
    power failure. A killed process may leave the temporary file, which the next write replaces.

    Args:
        path: The file.
        shared: True if several processes may write the file at once. Each then has a temporary
            file of its own, and the last one to finish wins.

    Raises:
        OutputError: it cannot be written; the message names it, the reason and what to do.
    """
    partial = partial_of(path.with_name(uuid.uuid4().hex) if shared else path)
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


def write_whole(path: Path, content: str | bytes, *, shared: bool = False) -> None:
    """Writes a file atomically; text as UTF-8. For `shared` see `whole_file`.

    Raises:
        OutputError: it cannot be written.
    """
    with whole_file(path, shared=shared) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def check_writable(path: Path) -> None:
    """Checks before long work that a file can be created at a path, whose folders may be missing.

    Raises:
        OutputError: it cannot; the message names it, the reason and what to do.
    """
    folder = path.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    with naming_write_errors(path), tempfile.TemporaryFile(dir=folder):
        pass


def partial_of(path: Path, *, suffix: str = "") -> Path:
    """Path of a file while it is incomplete: hidden, in the same folder, ending in .part + suffix.

    Long names are replaced by their digest, so that a name that fits the file system still does.
    """
    return path.with_name(f".{short_name(path.name)}.part{suffix}")


def short_name(name: str) -> str:
    """The name or, if it is long, 16 characters that stand for it."""
    data = os.fsencode(name)
    return name if len(data) <= _LONG_BYTES else hashlib.sha256(data).hexdigest()[:16]


def cut_name(stem: str, ending: str) -> str:
    """File name of a stem and its ending; a stem too long for a file name loses its end."""
    data, most = os.fsencode(stem), MOST_NAME_BYTES - len(os.fsencode(ending))
    return (stem if len(data) <= most else data[:most].decode("utf-8", "ignore")) + ending


def find_path(path: Path) -> Path:
    """The path itself if it exists, else the one on disk whose names are the same text.

    The same text can be different bytes: macOS writes accented letters in two characters (NFD),
    most other systems in one (NFC).
    """
    if os.path.lexists(path) or path.as_posix().isascii():
        return path
    parent = path.parent if path.parent == path else find_path(path.parent)
    wanted = unicodedata.normalize("NFC", path.name)
    with suppress(OSError, ValueError):
        for name in sorted(os.listdir(parent)):
            if unicodedata.normalize("NFC", name) == wanted:
                return parent / name
    return path


def near_path(path: Path) -> str:
    """Hint for a path that does not exist: a near one that does; empty without one."""
    forward = Path(str(path).replace("\\", "/"))
    if forward != path:
        found = f" {forward} does:" if os.path.exists(forward) else " It has a \\:"
        return f"{found} write paths with / instead of \\."
    if path.suffix:
        return ""
    with suppress(OSError, ValueError):
        same = [n for n in sorted(os.listdir(path.parent)) if os.path.splitext(n)[0] == path.name]
        if same:
            return f" {path.parent / same[0]} does: add the suffix."
    return ""


def is_unused(folder: Path, *, first: Path) -> bool:
    """Checks whether a folder is free for new content, whose file `first` is written first.

    True if it does not exist, is empty, or holds only the lock and the partial `first` of a killed
    process.
    """
    left = {partial_of(first), folder / LOCK_FILE}
    return not folder.exists() or (folder.is_dir() and left.issuperset(folder.iterdir()))


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
    except Exception as error:  # libraries wrap a full disk in any class; others pass unchanged
        cause = _refusal(error)
        if cause is None:
            raise
        raise OutputError(
            f"{path} cannot be written: {cause}. The previous file is kept. Free some space or "
            "choose a writable folder, then try again."
        ) from error


_FREE = "Free some space, then try again."
_RIGHTS = "Check its rights, or choose a place that you can write to."
_FIXES = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.ENOTDIR: "A part of the path is a file: check the path.",
    errno.EISDIR: "Name a file instead.",
    errno.EEXIST: "Choose another name.",
    errno.ENOENT: "Check the path.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n), or use fewer processes.",
    errno.ENOMEM: "Use fewer processes, or smaller batches.",
}


def system_error(error: OSError) -> str:
    """Message for an error of the system that nothing else has named: file, reason and fix."""
    if isinstance(error, KinemaError) or error.errno is None:
        return str(error)
    name = f"{os.fsdecode(error.filename)}: " if error.filename else "The system refused: "
    reason = (error.strerror or str(error)).rstrip(".")
    fix = _FIXES.get(error.errno, "KINEMA_DEBUG=1 shows where it happened.")
    return f"{name}{reason[:1].lower()}{reason[1:]}. {fix}"


def _refusal(error: BaseException) -> str | None:
    """Returns the system's reason for a failed write; None if that is not the cause.

    PyTorch raises its own error while handling the system's; the error of safetensors only quotes
    it.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError):
            # Arrow puts words of its own before the reason.
            text = re.sub(r".*\[errno \d+\] ", "", found.strerror or str(found))
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
