"""Temporary folders that are deleted even if their process was killed: by the next one."""

import logging
import os
import shutil
import stat
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

_log = logging.getLogger(__name__)

_PREFIX, _LOCK = "kinema-", "lock"


class TemporaryFolder:
    """New folder for one user, deleted at the end of the block, at `close`, or with the process.

    Its lock ends with the process, however that ends. A folder whose lock no process holds is
    deleted when the same user creates the next one.

    Args:
        use: Part of its name, such as "serve".

    Attributes:
        path: The folder; it holds nothing but the lock.
    """

    def __init__(self, use: str) -> None:
        _remove_abandoned()
        # Others see the folder when it is locked, not before.
        new = Path(tempfile.mkdtemp(prefix=f"new-{_PREFIX}{use}-"))
        lock = FileLock(new / _LOCK, thread_local=False)
        lock.acquire()
        self.path = new.rename(new.with_name(new.name.removeprefix("new-")))
        self._remove = weakref.finalize(self, _remove, self.path, lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Deletes the folder with its contents."""
        self._remove()


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout):  # gone already, or in use
            facts = folder.lstat()
            is_own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()
            if is_own and (folder / _LOCK).is_file():
                lock = FileLock(folder / _LOCK, thread_local=False)
                lock.acquire(blocking=False)
                _log.info("Deletes the temporary files of a killed process: %s", folder)
                _remove(folder, lock)


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
