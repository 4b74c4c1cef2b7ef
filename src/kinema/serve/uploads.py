"""Videos of requests: uploads in a private folder, or files below the allowed folder."""

import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from kinema.serve.limits import RefusedError
from kinema.system.temporary_folder import TemporaryFolder
from kinema.video.decode import is_video_path

_NAME_LENGTH = 200


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
        self._place = TemporaryFolder("serve")
        self.folder = self._place.path

    def close(self) -> None:
        """Deletes the folder and all uploads."""
        self._place.close()

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
