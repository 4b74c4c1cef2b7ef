"""Temporary copies of videos that are no local files: at an address, or in memory."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from kinema.errors import InputTypeError, KinemaError, UnreadableVideoError
from kinema.system.temporary_folder import TemporaryFolder


@contextmanager
def temporary_copy(name: str, *, suffix: str = "") -> Iterator[Path]:
    """Yields the path of a file to write, which is removed at the end.

    Errors in the block name `name` instead of the copy.
    """
    with TemporaryFolder("copy") as folder:
        copy = folder.path / f"copy{suffix}"
        try:
            yield copy
        except KinemaError as error:
            raise type(error)(str(error).replace(str(copy), name)) from error


@contextmanager
def copied_file(file: IO[bytes], name: str) -> Iterator[Path]:
    """Yields a temporary copy of an open file, from its position to its end.

    Raises:
        InputTypeError: it gives no bytes, such as a file that is open as text.
        UnreadableVideoError: it cannot be read, or is at its end.
    """
    with temporary_copy(name) as copy:
        try:
            with copy.open("wb") as target:
                shutil.copyfileobj(file, target)
        except TypeError:
            raise InputTypeError(f'{name} gives no bytes: open it in binary mode, "rb".') from None
        except (OSError, ValueError) as error:
            raise UnreadableVideoError(f"{name} cannot be read: {error}.") from error
        if not copy.stat().st_size:
            raise UnreadableVideoError(
                f"{name} has no bytes from its position on. If it was read or written before, call "
                "its seek(0) first."
            )
        yield copy
