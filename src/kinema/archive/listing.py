"""List of the videos of a job: a text file, a folder, or Parquet files."""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from kinema.archive.arrow import as_text, pa, pc, pq
from kinema.data.listing import list_remote, list_videos
from kinema.errors import AnnotationError, UnreadableVideoError
from kinema.video.decode import is_video_path
from kinema.video.folder import FRAME_SUFFIXES
from kinema.video.remote import (
    SCHEMES,
    check_client,
    is_url,
    local_file,
    parent_url,
    suffix_of,
    without_secrets,
)

_log = logging.getLogger(__name__)

_CHUNK = 100_000
# Files at an address that are lists of videos; everything else is a video or a folder.
_LIST_SUFFIXES = (".txt", ".lst", ".list", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Listing:
    """Videos of a job.

    Attributes:
        paths: Arrow array of unique large strings, in the order and spelling of the source.
        root: Folder, or text of an address, that relative paths start from.
        repeated: Number of duplicates in the source, which are dropped.
    """

    paths: Any
    root: str | Path
    repeated: int

    def __len__(self) -> int:
        return len(self.paths)


def read_listing(source: str | Path, *, root: str | Path | None, column: str = "path") -> Listing:
    """Reads a text file with a path per line, a folder of videos, or Parquet files.

    Paths, source and root may be addresses (s3://, gs://, http://, https://), given as text.

    Args:
        source: The file or folder. A folder that holds .parquet files is a manifest; any other
            folder is searched for videos at any depth; a single video is a list of one.
        root: Base of relative paths; by default the folder of the list, or the folder itself.
        column: Column of a manifest that holds the paths.

    Raises:
        AnnotationError: the source does not exist, is damaged, or names no video.
        MissingExtraError: packages for an address are not installed.
    """
    base, paths = _of_url(str(source), column) if is_url(source) else _of_files(source, column)
    name = without_secrets(source)
    if len(paths) == 0:
        raise AnnotationError(f"{name} names no video.")
    unique = pc.unique(paths)
    folder = root or base
    if not is_url(folder):
        folder = Path(folder).absolute()
        _warn_of_spellings(unique, folder, name)
    _check_clients(unique, folder)
    return Listing(unique, folder, len(paths) - len(unique))


def _of_files(source: str | Path, column: str) -> tuple[Path, Any]:
    """Folder and paths of a source on this machine."""
    place = Path(source)
    if not place.exists():
        raise AnnotationError(f"{place} does not exist: expected a list, a folder or a manifest.")
    manifests = _manifests(place)
    if manifests:
        base, paths = place if place.is_dir() else place.parent, _of_manifests(manifests, column)
    elif place.is_dir():
        base, paths = _of_folder(place)
    elif is_video_path(place):
        base, paths = place.parent, _strings([place.name])
    else:
        base, paths = place.parent, _strings(_lines(place, column))
    return base, paths


def _of_url(url: str, column: str) -> tuple[str, Any]:
    """Folder and paths of a source at an address: a list, a manifest, a video, or a folder."""
    base = parent_url(url)
    try:
        if suffix_of(url) in _LIST_SUFFIXES:
            with local_file(url) as copy:
                return base, _of_files(copy, column)[1]
        found = list_remote(url)
    except UnreadableVideoError as error:
        raise AnnotationError(str(error)) from None
    if found == [url]:
        return base, _strings(found)
    folder = url.rstrip("/")
    return folder, _strings(name.removeprefix(f"{folder}/") for name in found)


def _check_clients(paths: Any, root: str | Path) -> None:
    """Raises MissingExtraError here, as the processes of the job would end at it."""
    for scheme in SCHEMES:
        if pc.any(pc.starts_with(paths, f"{scheme}://", ignore_case=True)).as_py():
            check_client(f"{scheme}://x/y")
    if is_url(root):
        check_client(str(root))


def _warn_of_spellings(paths: Any, root: Path, source: str) -> None:
    """Logs a warning if a path occurs in several spellings, such as a.mp4 and ./a.mp4."""
    is_odd = pc.or_(
        pc.match_substring_regex(paths, r"(^|/)\.\.?/|//"), pc.starts_with(paths, f"{root}/")
    )
    is_odd = pc.and_not(is_odd, pc.match_substring_regex(paths, r"^\w+://"))
    seen: dict[str, str] = {}
    twice = []
    for path in pc.filter(paths, is_odd).to_pylist():
        plain = os.path.relpath(os.path.normpath(root / path), root)
        if plain in seen:
            twice.append((path, seen[plain]))
        seen.setdefault(plain, path)
    plain_ones = pc.filter(paths, pc.is_in(paths, value_set=_strings(seen).combine_chunks()))
    twice += [(seen[path], path) for path in plain_ones.to_pylist() if seen[path] != path]
    if twice:
        _log.warning(
            "%s names %d videos again in another spelling, such as %r and %r. Each spelling is "
            "labeled and gets a row; write a path in one way to avoid it.",
            *(source, len(twice), *twice[0]),
        )


def _manifests(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(place.glob("*.parquet"))
    return [place] if place.suffix.lower() == ".parquet" else []


def _of_manifests(files: list[Path], column: str) -> Any:
    parts = []
    for file in files:
        try:
            names = pq.read_schema(file).names
            if column not in names:
                raise AnnotationError(
                    f"{file} has no column {column!r}, but {', '.join(names)}: see --column."
                )
            part = pq.read_table(file, columns=[column])[column].cast(pa.large_string())
        except (pa.ArrowException, OSError) as error:
            raise AnnotationError(f"{file} cannot be read as Parquet: {error}.") from error
        if part.null_count:
            raise AnnotationError(f"{file}: {part.null_count} rows have no {column}.")
        parts += part.chunks
    return pa.chunked_array(parts, pa.large_string())


def _of_folder(folder: Path) -> tuple[Path, Any]:
    found = list_videos([folder])
    first = next(found)
    if first != folder:
        rest = (path.relative_to(folder).as_posix() for path in found)
        return folder, _strings([first.relative_to(folder).as_posix(), *rest])
    if any(file.suffix.lower() in FRAME_SUFFIXES for file in folder.iterdir()):
        whole = folder.absolute()
        return whole.parent, _strings([whole.name])
    raise AnnotationError(f"{folder} holds no videos.")


def _lines(file: Path, column: str) -> Iterator[str]:
    number, is_first = 0, True
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                path = line.rstrip("\r\n")
                if "\0" in path:
                    raise AnnotationError(f"{file}, line {number}: this is not a list of paths.")
                if not path.strip():
                    continue
                if is_first:
                    _check_no_table(file, path, column)
                is_first = False
                yield path
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{file}, after line {number}: this is not UTF-8 text with a path per line."
        ) from error


def _check_no_table(file: Path, line: str, column: str) -> None:
    """Refuses tables and annotation files, whose lines hold more than a path."""
    fields = [field.strip(' "') for field in re.split(r"[,;\t]", line)]
    path_label = re.fullmatch(r"(.+\.\w+) +\S+", line)
    if path_label:
        fields.append(path_label[1])
    is_header = column.lower() in (field.lower() for field in fields)
    if is_header or (not is_video_path(line) and any(map(is_video_path, fields))):
        raise AnnotationError(
            f"{file}, line 1: expected a path per line, got {line!r} of a table. Write its paths "
            "alone into a text file, without a header, or give the table as Parquet."
        )


def _strings(paths: Iterable[str]) -> Any:
    """Makes an Arrow array in chunks; bytes that are not UTF-8 become escapes."""
    left, chunks = iter(paths), []
    while chunk := list(islice(left, _CHUNK)):
        chunks.append(pa.array(map(as_text, chunk), pa.large_string()))
    return pa.chunked_array(chunks, pa.large_string())
