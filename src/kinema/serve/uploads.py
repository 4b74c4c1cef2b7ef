"""Videos of requests: uploads in a private folder, or files below the allowed folder."""

import logging
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from filelock import FileLock, Timeout

from kinema.serve.limits import RefusedError
from kinema.video.decode import is_video_path

_log = logging.getLogger(__name__)

_NAME_LENGTH = 200
_PREFIX, _LOCK = "kinema-serve-", "lock"


@dataclass(frozen=True)
class Video:
    """A video of a request.

    Attributes:
        path: Path on this machine, which no answer contains.
        name: File name given by the client.
        is_upload: True if the file belongs to the request and is deleted after it.
    """

    path: Path
    name: str
    is_upload: bool = False

    def with_name(self, text: str) -> str:
        """Replaces the path in a message by the client's name."""
        return text.replace(str(self.path), self.name)


class UploadFolder:
    """Private temporary folder for uploads; those of killed servers of this user are deleted."""

    def __init__(self) -> None:
        remove_abandoned()
        # Others see the folder when it is locked, not before.
        new = Path(tempfile.mkdtemp(prefix=f"new-{_PREFIX}"))
        lock = FileLock(new / _LOCK, thread_local=False)
        lock.acquire()
        self.folder = new.rename(new.with_name(new.name.removeprefix("new-")))
        self._remove = weakref.finalize(self, _remove, self.folder, lock)

    def close(self) -> None:
        """Deletes the folder and all uploads."""
        self._remove()

    def begin(self, filename: str | None) -> tuple[Video, BinaryIO]:
        """Begins an upload with the client's file name; the caller writes it and deletes it."""
        name = shown_name(filename)
        suffix = PurePath(name).suffix.lower() if is_video_path(name) else ""
        descriptor, path = tempfile.mkstemp(suffix=suffix, dir=self.folder)
        return Video(Path(path), name, is_upload=True), os.fdopen(descriptor, "wb")

    async def keep_stream(self, parts: AsyncIterator[bytes], name: str) -> Video:
        """Writes a body into a file, which the caller deletes."""
        video, file = self.begin(name)
        try:
            with file:
                async for part in parts:
                    file.write(part)
        except BaseException:  # also when cancelled: no upload may stay on the disk
            forget(video)
            raise
        return video


def remove_abandoned() -> None:
    """Deletes upload folders of this user whose lock no process holds."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout):  # gone already, or in use
            facts = folder.lstat()
            is_own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()
            if is_own and (folder / _LOCK).is_file():
                lock = FileLock(folder / _LOCK, thread_local=False)
                lock.acquire(blocking=False)
                _log.info("Deletes the uploads of a killed server: %s", folder)
                _remove(folder, lock)


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()


def forget(video: Video | None) -> None:
    """Deletes the video if it is an upload."""
    if video is not None and video.is_upload:
        video.path.unlink(missing_ok=True)


def allowed_video(folder: Path | None, wanted: str) -> Video:
    """Finds a video or folder of frames below the allowed folder; links must not leave it.

    Raises:
        RefusedError: no folder is allowed, or the path leaves it or does not exist.
    """
    name = shown_name(wanted, whole=True)
    if folder is None:
        raise RefusedError(
            403,
            "path_not_allowed",
            "This server reads no files of its own: upload the video as `file`, or start it with "
            "--allow-folder.",
            file=name,
        )
    root = folder.resolve()
    try:
        path = (root / wanted).resolve()
        outside = not path.is_relative_to(root)
        exists = not outside and path.exists()
    except (OSError, ValueError):  # such as a null byte or a loop of links
        outside, exists = False, False
    if outside:
        raise RefusedError(
            403, "path_not_allowed", f"{name} is not below the allowed folder.", file=name
        )
    if not exists:
        raise RefusedError(404, "no_such_file", f"{name} does not exist.", file=name)
    return Video(path, name)


def shown_name(filename: str | None, *, whole: bool = False) -> str:
    """Removes control characters from a file name, and folders unless it is a `whole` path."""
    name = filename or "upload"
    if not whole:
        name = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in name if c.isprintable())[:_NAME_LENGTH] or "upload"
