"""List of the videos of a job: a text file, a folder, or Parquet files."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from kinema.archive.arrow import as_text, pa, pc, pq
from kinema.data.listing import list_videos
from kinema.errors import AnnotationError
from kinema.video.decode import is_video_path
from kinema.video.folder import FRAME_SUFFIXES

_CHUNK = 100_000


@dataclass(frozen=True)
class Listing:
    """Videos of a job.

    Attributes:
        paths: Arrow array of unique large strings, in the order and spelling of the source.
        root: Folder that relative paths start from.
        repeated: Number of duplicates in the source, which are dropped.
    """

    paths: Any
    root: Path
    repeated: int

    def __len__(self) -> int:
        return len(self.paths)


def read_listing(source: str | Path, *, root: str | Path | None, column: str = "path") -> Listing:
    """Reads a text file with a path per line, a folder of videos, or Parquet files.

    Args:
        source: The file or folder. A folder that holds .parquet files is a manifest; any other
            folder is searched for videos at any depth; a single video is a list of one.
        root: Base of relative paths; by default the folder of the list, or the folder itself.
        column: Column of a manifest that holds the paths.

    Raises:
        AnnotationError: the source does not exist, is damaged, or names no video.
    """
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
        base, paths = place.parent, _strings(_lines(place))
    if len(paths) == 0:
        raise AnnotationError(f"{place} names no video.")
    unique = pc.unique(paths)
    return Listing(unique, Path(root or base).absolute(), len(paths) - len(unique))


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


def _lines(file: Path) -> Iterator[str]:
    number = 0
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                path = line.rstrip("\r\n")
                if "\0" in path:
                    raise AnnotationError(f"{file}, line {number}: this is not a list of paths.")
                if path.strip():
                    yield path
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{file}, after line {number}: this is not UTF-8 text with a path per line."
        ) from error


def _strings(paths: Iterable[str]) -> Any:
    """Makes an Arrow array in chunks; bytes that are not UTF-8 become escapes."""
    left, chunks = iter(paths), []
    while chunk := list(islice(left, _CHUNK)):
        chunks.append(pa.array(map(as_text, chunk), pa.large_string()))
    return pa.chunked_array(chunks, pa.large_string())
