"""Lock of a folder that one process at a time may write to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kinema.errors import OptionError
from kinema.system.files import LOCK_FILE, naming_write_errors


@contextmanager
def locked_folder(folder: Path, *, task: str) -> Iterator[None]:
    """Keeps other processes that lock a folder out of it until the end of the block.

    Creates the folder if needed. The lock ends with the process, however that ends.

    Args:
        folder: The folder.
        task: Subject of the error, such as "Another job".

    Raises:
        OptionError: another process has locked it.
        OutputError: it cannot be written to.
    """
    lock = FileLock(folder / LOCK_FILE)
    with naming_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise OptionError(
                f"{task} is writing to {folder}. Wait for its end or stop it, or choose another "
                "folder."
            ) from None
    try:
        yield
    finally:
        lock.release()
