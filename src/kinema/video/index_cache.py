"""Cache of frame indices in one SQLite file beside the data set.

Reading all packets of a file, or decoding it once to count its frames, is needed only the first
time. `IndexCache` keeps the result in one SQLite file beside the data set, under the size and the
time of change of the video, so that later openings neither scan nor decode anything.
"""

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
from kinema.values import VideoInfo
from kinema.video.frame_index import FrameIndex, IndexedVideo

CACHE_NAME = ".kinema_index"

# Counted up when the meaning of an entry changes; another FFmpeg may find other frames.
_LAYOUT = f"3 av {av.__version__}"
_BUSY_S = 5.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS videos "
    "(path TEXT PRIMARY KEY, bytes INTEGER, mtime_ns INTEGER, layout TEXT, entry BLOB)"
)

_LOOK_UP = "SELECT entry FROM videos WHERE path = ? AND bytes = ? AND mtime_ns = ? AND layout = ?"
_MAGIC = b"SQLite format 3\0"


_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


class IndexCache:
    """A file with what is known of the videos of a data set.

    Several processes may read and write it at once, and one that is killed does no harm. An entry
    counts only for a file of the same size and time of change, and for the FFmpeg it was made
    with. A file that is no cache, or is damaged, is begun anew and a note is logged. Where it
    cannot be written, videos are scanned as if there were no cache.

    Args:
        path: The file; made with its first entry.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.abspath(path))

    @classmethod
    def beside(cls, root: str | Path) -> "IndexCache | None":
        """The cache in the folder of the videos; None where that cannot be written."""
        folder = Path(root)
        writable = folder.is_dir() and os.access(folder, os.W_OK)
        return cls(folder / CACHE_NAME) if writable else None

    @classmethod
    def chosen(cls, choice: str | None, root: str | Path) -> "IndexCache | None":
        """What the setting `index_cache` means.

        Args:
            choice: The path of a cache file; "" for none; None for one beside the videos.
            root: Folder of the videos.

        Raises:
            OptionError: the path is a folder, a file of another kind, or in no folder.
        """
        if choice is None:
            return cls.beside(root)
        if not choice:
            return None
        path = Path(choice)
        if path.is_dir() or not path.parent.is_dir():
            raise OptionError(
                f"index_cache must be a file in a folder that exists, got {choice!r}, such as "
                f"{path / CACHE_NAME if path.is_dir() else CACHE_NAME}."
            )
        if path.name != CACHE_NAME and not _may_be_cache(path):
            raise OptionError(f"index_cache {choice!r} is a file of another kind; name a new one.")
        return cls(path)

    def get(self, video: Path, facts: os.stat_result) -> IndexedVideo | None:
        """What is known of a video file with these facts; None if nothing is."""
        if not self.path.exists():
            return None
        wanted = (self._key(video), facts.st_size, facts.st_mtime_ns, _LAYOUT)
        row = self._transaction(lambda db: db.execute(_LOOK_UP, wanted).fetchone())
        if row is None:
            return None
        found = _unpacked(row[0], video)
        if found is None:
            _log.warning("%s: the entry of %s is damaged and is made anew.", self.path, video)
        return found

    def put(self, video: Path, facts: os.stat_result, known: IndexedVideo) -> None:
        """Remembers a video file with these facts."""
        row = (self._key(video), facts.st_size, facts.st_mtime_ns, _LAYOUT, _packed(known))

        def write(db: sqlite3.Connection) -> None:
            db.execute(_TABLE)
            db.execute("INSERT OR REPLACE INTO videos VALUES (?, ?, ?, ?, ?)", row)

        self._transaction(write)

    def _key(self, video: Path) -> str:
        """Relative to the cache, so that a data set may be moved together with it."""
        path = Path(os.path.abspath(video))
        if path.is_relative_to(self.path.parent):
            return path.relative_to(self.path.parent).as_posix()
        return str(path)

    def _transaction(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result | None:
        """Runs one transaction on its own connection, which outlives no fork; None in trouble."""
        file = _file_number(self.path)
        try:
            with closing(sqlite3.connect(self.path, timeout=_BUSY_S)) as db:
                # Without waiting for the disk: a killed process leaves the file whole, only a
                # power cut may not, and then it is begun anew.
                db.execute("PRAGMA synchronous = OFF")
                with db:
                    return work(db)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:  # locked, read-only, full ...
                _log.debug("%s cannot be used now: %s.", self.path, error)
            elif "no such table" not in str(error):  # there is none before the first entry
                self._begin_anew(file, error)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            self._begin_anew(file, error)
        return None

    def _begin_anew(self, file: int, error: Exception) -> None:
        """Puts a damaged file out of the way, unless another process has already done so."""
        if _file_number(self.path) != file:
            return
        aside = self.path.with_name(self.path.name + ".damaged")
        with suppress(OSError):
            os.replace(self.path, aside)
            _log.warning(
                "%s is no usable index cache (%s). It was renamed to %s and is made anew.",
                *(self.path, error, aside.name),
            )


def _may_be_cache(path: Path) -> bool:
    """Whether it is new, empty or an SQLite file; a video list must not be put out of the way."""
    if not path.exists():
        return True
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) in (b"", _MAGIC)


def _file_number(path: Path) -> int:
    """Tells a file from another one that has taken its name."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _packed(known: IndexedVideo) -> bytes:
    """JSON, compressed, with a checksum; series of numbers as differences."""
    facts = asdict(known.info)
    del facts["path"]
    index = known.index
    document = {
        "info": facts,
        "frames": index.frames,
        "reach": index.reach,
        "pts": _steps(index.pts),
        "keyframes": _steps(index.keyframes),
        "unreferenced": _steps(index.unreferenced),
        "coded_size": known.coded_size,
        "tick_s": known.tick_s,
    }
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode())


def _unpacked(blob: object, video: Path) -> IndexedVideo | None:
    """Reads an entry back; None when it is damaged or contradicts itself."""
    try:
        assert isinstance(blob, bytes)
        document = json.loads(zlib.decompress(blob))  # checks the sum
        index = FrameIndex(
            frames=document["frames"],
            reach=document["reach"],
            pts=list(accumulate(document["pts"])),
            keyframes=list(accumulate(document["keyframes"])),
            unreferenced=list(accumulate(document["unreferenced"])),
        )
        info = VideoInfo(path=str(video), **document["info"])
        width, height = document["coded_size"]
        known = IndexedVideo(info, index, (width, height), document["tick_s"])
    except (AssertionError, KeyError, OverflowError, TypeError, ValueError, zlib.error):
        return None
    return known if _agrees(known) else None


def _agrees(known: IndexedVideo) -> bool:
    """Whether the parts of an entry fit together."""
    index = known.index
    if not (known.info.frames == index.frames > 0 and len(index.pts) in (0, index.frames)):
        return False
    if index.reach == "seek":
        rising = len(index.pts) > 0 and all(a < b for a, b in pairwise(index.pts))
        return rising and bool(index.keyframes)
    return index.reach == "start" or (len(index.keyframes) > 0 and index.keyframes[0] == 0)


def _steps(values: Sequence[int]) -> list[int]:
    """The differences, which repeat themselves and so compress well."""
    return [now - before for before, now in zip((0, *values), values, strict=False)]
