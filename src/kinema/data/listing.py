"""Videos in files and folders, and clips of them without labels.

Letters: B clips, T frames, H, W.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch

from kinema.data.sampling import sampling_of
from kinema.data.transforms import ViewTransform, normalize
from kinema.errors import UnreadableVideoError
from kinema.values import Preprocessing, Views
from kinema.video.decode import is_video_path, open_source
from kinema.video.folder import is_frame
from kinema.video.remote import files_below, is_url, without_secrets


def list_videos(paths: Iterable[Path]) -> Iterator[Path]:
    """Lists the videos in files and folders, recursively; a folder of frames is one video.

    Follows links to folders and skips hidden folders and files.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(filter(is_video_path, _files_below(path)))
        if not found:
            found = sorted({file.parent for file in filter(is_frame, _files_below(path))})
        yield from found or [path]


def list_places(places: Iterable[str]) -> Iterator[str | Path]:
    """Lists the videos at files, folders and addresses, see `list_videos` and `list_remote`."""
    for place in places:
        yield from list_remote(place) if is_url(place) else list_videos([Path(place)])


def list_remote(url: str) -> list[str]:
    """Lists the videos at an address: the file itself, or those in a folder of a store.

    Raises:
        MissingExtraError: the packages for this scheme are not installed.
        UnreadableVideoError: the folder cannot be listed, or holds no videos.
    """
    if is_video_path(url):
        return [url]
    found = files_below(url)
    if found == [url]:
        return found
    videos = [name for name in found if is_video_path(name) and "/." not in name]
    if not videos:
        raise UnreadableVideoError(f"{without_secrets(url)} holds no videos.")
    return videos


def _files_below(folder: Path) -> Iterator[Path]:
    """Yields files below a folder, visiting each folder once even if links lead to it again."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in files)


def read_clips(paths: Iterable[Path], how: Preprocessing, *, batch: int) -> Iterator[torch.Tensor]:
    """Reads the middle clip and center crop of every video, normalized, in batches.

    Yields:
        (B, T, 3, H, W) float32, B = `batch`, fewer in the last batch.

    Raises:
        UnreadableVideoError: a video cannot be read.
    """
    transform = ViewTransform(how, Views())
    left = iter(paths)
    while group := list(islice(left, batch)):
        yield torch.cat([_clip(path, how, transform) for path in group])


def _clip(path: Path, how: Preprocessing, transform: ViewTransform) -> torch.Tensor:
    with open_source(path) as source:
        (indices,) = sampling_of(how).test(source.info.frames, 1)
        return normalize(transform(source.read(indices)), how.mean, how.std)
