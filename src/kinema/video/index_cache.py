"""Cache of frame indices in one SQLite file beside the data set.

An index is built once, by reading all packets of a video or by decoding it. Later openings take
it from the cache, as long as size and modification time of the video are the same.
"""

import functools
import hashlib
import json
import logging
import os
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TypeVar

import av

from kinema.errors import OptionError
from kinema.system.cache_folder import cache_folder, check_private
from kinema.values import VideoInfo
from kinema.video.frame_index import FrameIndex, IndexedVideo

CACHE_NAME = ".kinema_index"

# Format version of the entries. Another FFmpeg may find other frames, so its version is part of it.
_LAYOUT = f"4 av {av.__version__}"
_BUSY_S = 5.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS videos "
    "(path TEXT PRIMARY KEY, bytes INTEGER, mtime_ns INTEGER, layout TEXT, entry BLOB)"
)

_LOOK_UP = "SELECT entry FROM videos WHERE path = ? AND bytes = ? AND mtime_ns = ? AND layout = ?"
_MAGIC = b"SQLite format 3\0"

# Series of numbers in an index.
_SERIES = ("pts", "keyframes", "unreferenced")

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


class IndexCache:
    """SQLite file with the frame indices of a data set.

    Several processes may read and write it concurrently, and killing one leaves it intact. An
    entry is valid only for the same size and modification time of the video and the same version
    of PyAV. A damaged cache is renamed and replaced with a warning. A cache that cannot be written
    is ignored. The file is created with the first entry. If other users can write to the file or
    its folder, one in the cache folder (`kinema.system.cache_folder`) takes its place, with a
    warning.

    Attributes:
        path: The file.
    """

    def __init__(self, path: str | Path) -> None:
        wanted = Path(os.path.abspath(path))
        try:
            for part in (wanted.parent, wanted):
                if part.exists():
                    check_private(part, own_group=True)
            self.path = wanted
        except PermissionError as error:
            name = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]
            self.path = cache_folder("indices") / name
            _warn_moved(str(wanted), str(self.path), str(error))

    @classmethod
    def chosen(cls, choice: str | None, root: str | Path) -> "IndexCache | None":
        """Cache for a value of the setting `index_cache`; None for no cache.

        Args:
            choice: Path of a cache file; "" for no cache; None for one beside the videos, if their
                folder is writable.
            root: Folder of the videos.

        Raises:
            OptionError: the path is a folder, not a cache file, or in a folder that does not exist.
        """
        if choice is None:
            writable = os.path.isdir(root) and os.access(root, os.W_OK)
            return cls(Path(root, CACHE_NAME)) if writable else None
        if not choice:
            return None
        path = Path(choice)
        if path.is_dir() or not path.parent.is_dir():
            raise OptionError(
                f"index_cache must be a file in a folder that exists, got {choice!r}, such as "
                f"{path / CACHE_NAME if path.is_dir() else CACHE_NAME}."
            )
        if path.name != CACHE_NAME and not _may_be_cache(path):
            raise OptionError(f"index_cache {choice!r} is not a cache file; name a new file.")
        return cls(path)

    def get(self, video: Path, stat: os.stat_result) -> IndexedVideo | None:
        """Looks up a video file of this size and modification time; None if there is no entry."""
        if not self.path.exists():
            return None
        wanted = (self._key(video), stat.st_size, stat.st_mtime_ns, _LAYOUT)
        row = self._transaction(lambda db: db.execute(_LOOK_UP, wanted).fetchone())
        if row is None:
            return None
        found = _unpacked(row[0], video)
        if found is None:
            _log.warning("%s: the entry of %s is damaged and will be rebuilt.", self.path, video)
        return found

    def put(self, video: Path, stat: os.stat_result, indexed: IndexedVideo) -> None:
        """Stores the index of a video file of this size and modification time."""
        row = (self._key(video), stat.st_size, stat.st_mtime_ns, _LAYOUT, _packed(indexed))

        def write(db: sqlite3.Connection) -> None:
            db.execute(_TABLE)
            db.execute("INSERT OR REPLACE INTO videos VALUES (?, ?, ?, ?, ?)", row)

        self._transaction(write)

    def _key(self, video: Path) -> str:
        """Path relative to the cache, so that it moves with its data set."""
        path = Path(os.path.abspath(video))
        if path.is_relative_to(self.path.parent):
            return path.relative_to(self.path.parent).as_posix()
        return str(path)

    def _transaction(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result | None:
        """Runs a transaction on a connection of its own; None if the cache cannot be used."""
        inode = _inode(self.path)
        try:
            with closing(sqlite3.connect(self.path, timeout=_BUSY_S)) as db:
                # Do not wait for the disk. A killed process leaves the file intact; a power cut
                # may not, and then it is replaced.
                db.execute("PRAGMA synchronous = OFF")
                with db:
                    return work(db)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:  # locked, read-only, full ...
                _log.debug("%s cannot be used now: %s.", self.path, error)
            elif "no such table" not in str(error):  # there is none before the first entry
                self._replace_damaged(inode, error)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            self._replace_damaged(inode, error)
        return None

    def _replace_damaged(self, inode: int, error: Exception) -> None:
        """Renames a damaged file, unless another process has already replaced it."""
        if _inode(self.path) != inode:
            return
        aside = self.path.with_name(self.path.name + ".damaged")
        with suppress(OSError):
            os.replace(self.path, aside)
            _log.warning(
                "%s is not a usable index cache (%s). It was renamed to %s and will be rebuilt.",
                *(self.path, error, aside.name),
            )


@functools.cache  # once for each file
def _warn_moved(wanted: str, used: str, reason: str) -> None:
    _log.warning(
        "The index cache %s is not used (%s): the frames of its videos are indexed in %s instead. "
        "Name another file with data.index_cache.",
        *(wanted, reason, used),
    )


def _may_be_cache(path: Path) -> bool:
    """True if it is new, empty or an SQLite file; a user's video list must not be renamed."""
    if not path.exists():
        return True
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) in (b"", _MAGIC)


def _inode(path: Path) -> int:
    """Distinguishes a file from its replacement of the same name; 0 if there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _packed(indexed: IndexedVideo) -> bytes:
    """Compressed JSON with a checksum; number series are stored as differences."""
    info = asdict(indexed.info)
    del info["path"]
    index = indexed.index
    document = {
        "info": info,
        "frames": index.frames,
        "reach": index.access,
        **{name: _differences(getattr(index, name)) for name in _SERIES},
        "last_ticks": index.last_ticks,
        "coded_size": indexed.coded_size,
        "tick_s": indexed.tick_s,
    }
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode())


def _unpacked(blob: object, video: Path) -> IndexedVideo | None:
    """Reads an entry; None if it is damaged or contradicts itself."""
    try:
        assert isinstance(blob, bytes)
        document = json.loads(zlib.decompress(blob))  # verifies the checksum
        series = {name: list(accumulate(document[name])) for name in _SERIES}
        last_ticks = document["last_ticks"]
        index = FrameIndex(document["frames"], document["reach"], **series, last_ticks=last_ticks)
        info = VideoInfo(path=str(video), **document["info"])
        width, height = document["coded_size"]
        indexed = IndexedVideo(info, index, (width, height), document["tick_s"])
    except (AssertionError, KeyError, OverflowError, TypeError, ValueError, zlib.error):
        return None
    return indexed if _is_consistent(indexed) else None


def _is_consistent(indexed: IndexedVideo) -> bool:
    """True if the parts of an entry agree."""
    index = indexed.index
    if not (indexed.info.frames == index.frames > 0 and len(index.pts) in (0, index.frames)):
        return False
    if not all(a < b for a, b in pairwise(index.pts)):
        return False
    if index.access == "seek":
        return len(index.pts) > 0 and bool(index.keyframes)
    return index.access == "start" or (len(index.keyframes) > 0 and index.keyframes[0] == 0)


def _differences(values: Sequence[int]) -> list[int]:
    """Differences of neighbors, which repeat and so compress well."""
    return [now - before for before, now in zip((0, *values), values, strict=False)]
