"""Output folder of a job: Parquet files that are written atomically, and their contents so far.

The folder holds no other visible files, so that readers of whole folders can read it. What all its
rows have in common, the facts, is in the metadata of every file.
"""

import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kinema.archive.arrow import pa, pc, pq
from kinema.errors import OptionError
from kinema.system.files import partial_of, whole_file
from kinema.system.folder_lock import locked_folder

_FACTS_KEY = b"kinema"
_OLD_FACTS_FILE = "_label.json"  # of kinema before December 2026

_CLASS = pa.struct([("label", pa.int32()), ("name", pa.string()), ("prob", pa.float32())])


def row_schema(*, features: bool) -> Any:
    """Returns the columns: path, top (best class first; null if failed), features, error."""
    columns = [("path", pa.string()), ("top", pa.list_(_CLASS))]
    if features:
        columns.append(("features", pa.list_(pa.float32())))
    return pa.schema([*columns, ("error", pa.string())])


class OutputFolder:
    """Labels by one network with one setting, the `facts`; see `open_output`."""

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder = folder
        self.facts = facts

    def done(self) -> Any:
        """Returns a table of the written videos: path, and failed (bool)."""
        schema = pa.schema([("path", pa.large_string()), ("failed", pa.bool_())])
        parts = [_read(file, ["path", "error"]) for file in self._files()]
        kept = [
            pa.table(
                [part["path"].cast(pa.large_string()), part["error"].is_valid()], schema=schema
            )
            for part in parts
        ]
        return pa.concat_tables([schema.empty_table(), *kept])

    def drop_failed(self, paths: Any) -> None:
        """Deletes the rows of those videos that failed, so that they are tried again."""
        for file in self._files():
            rows = _read(file, ["path", "error"])
            wanted = pc.is_in(rows["path"].cast(pa.large_string()), value_set=paths)
            failed = pc.and_(rows["error"].is_valid(), wanted)
            if not pc.any(failed).as_py():
                continue
            kept = _read(file, None).filter(pc.invert(failed))
            if kept.num_rows:
                self.write(file.stem, kept)
            else:
                file.unlink()

    def remember(self, **more: Any) -> None:
        """Adds facts about the labels, which the next files have."""
        self.facts = {**self.facts, **more}

    def write(self, name: str, rows: Any) -> None:
        """Writes a file atomically."""
        rows = rows.replace_schema_metadata({_FACTS_KEY: json.dumps(self.facts)})
        with whole_file(self.folder / f"{name}.parquet") as partial:
            pq.write_table(rows, partial, compression="zstd")

    def move_old_facts(self) -> None:
        """Moves facts from a file of their own, as older versions wrote it, into the others."""
        old = self.folder / _OLD_FACTS_FILE
        if old.exists():
            for file in self._files():
                self.write(file.stem, _read(file, None))
            old.unlink()

    def _files(self) -> list[Path]:
        return _files(self.folder)


@contextmanager
def open_output(folder: str | Path, facts: dict[str, Any]) -> Iterator[OutputFolder]:
    """Opens a new folder, or one that holds labels with the same facts.

    Until the end of the block no other job can open it. Unfinished files of a killed job are
    removed.

    Raises:
        OptionError: the folder is an address, holds other things or other labels, or another job
            writes to it.
        OutputError: it cannot be written to.
    """
    place = Path(folder)
    if re.match(r"\w{2,}:/", str(folder)):
        raise OptionError(
            f"{folder} is an address: labels are written to a folder of this machine. Write them "
            "there and copy the folder afterwards."
        )
    if place.exists() and not place.is_dir():
        raise OptionError(f"{place} is not a folder.")
    _stored_facts(place)  # refuses a folder of other things before it writes there
    with locked_folder(place, task="Another job"):
        for file in place.glob(partial_of(Path("*")).name):
            file.unlink()
        stored = _stored_facts(place)
        output = OutputFolder(place, _known_facts(*stored, facts) if stored else facts)
        output.move_old_facts()
        yield output


class RowWriter:
    """Collects rows and writes them when there are enough for a file, or after some time.

    Args:
        output: The output folder.
        rows: Rows per file.
        seconds: Longest time a row waits; a crash loses at most this much work.
    """

    def __init__(self, output: OutputFolder, *, rows: int, seconds: float = 60) -> None:
        self._output = output
        self._most_rows = rows
        self._most_s = seconds
        self._waiting: list[Any] = []
        self._since = 0.0
        self._name = f"labels-{uuid.uuid4().hex[:12]}"
        self._files = 0

    def add(self, rows: Any) -> None:
        """Adds a table of rows."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(rows)
        old = time.monotonic() - self._since >= self._most_s
        if old or sum(table.num_rows for table in self._waiting) >= self._most_rows:
            self.flush()

    def flush(self) -> None:
        """Writes the waiting rows."""
        if self._waiting:
            rows = pa.concat_tables(self._waiting).combine_chunks()
            self._output.write(f"{self._name}-{self._files:06d}", rows)
            self._files += 1
            self._waiting = []


def _read(file: Path, columns: list[str] | None) -> Any:
    try:
        return pq.read_table(file, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> OptionError:
    return OptionError(
        f"{file} cannot be read ({error}). Remove it to have its videos labeled again."
    )


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def _stored_facts(place: Path) -> tuple[Path, bytes] | None:
    """Facts in a folder of labels, with their file; None if it is new, or its job just began.

    Raises:
        OptionError: the folder holds other things, or a damaged file.
    """
    old = place / _OLD_FACTS_FILE
    if old.exists():
        return old, old.read_bytes()
    for file in _files(place):
        try:
            found = (pq.read_schema(file).metadata or {}).get(_FACTS_KEY)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(file, error) from error
        if found is not None:
            return file, found
    # A job that was killed early leaves a lock alone.
    others = place.iterdir() if place.exists() else ()
    first = next((file.name for file in others if not file.name.startswith(".")), None)
    if first is not None:
        raise OptionError(f"{place} is not empty and holds no labels ({first}): choose another.")
    return None


def _known_facts(source: Path, text: bytes, facts: dict[str, Any]) -> dict[str, Any]:
    """Returns the facts of existing labels after a comparison with those of the job."""
    try:
        known = json.loads(text)
        other = [
            "another network"
            if key == "checkpoint"
            else f"{key} {known[key]} (wanted: {facts[key]})"
            for key in facts
            if known[key] != facts[key]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise OptionError(f"The settings in {source} are damaged: {error}.") from error
    if other:
        raise OptionError(
            f"{source.parent} holds labels made with {'; '.join(other)}. Choose another folder, or "
            "the same network and settings to go on."
        )
    return dict(known)
