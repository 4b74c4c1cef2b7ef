"""Files of published networks: fetched once, and checked before anything opens them.

The cache holds one file per hash in `$KINEMA_HOME/published/files`.
"""

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from filelock import FileLock, Timeout

from kinema.errors import FetchError, OptionError
from kinema.models.published.catalog import PublishedNetwork, file_name_of
from kinema.models.published.download import Download, Patience, Progress, SourceError
from kinema.system.cache_folder import user_folder
from kinema.system.files import naming_write_errors, sync_folder

_log = logging.getLogger(__name__)

OFFLINE, MIRROR, HOME = "KINEMA_OFFLINE", "KINEMA_MIRROR", "KINEMA_HOME"


@dataclass(frozen=True)
class FetchedFile:
    """File in the cache, and its whole SHA-256."""

    path: Path
    sha256: str


def published_home() -> Path:
    """Folder of fetched files and converted networks.

    `published` in `kinema.system.cache_folder.user_folder("KINEMA_HOME")`.

    Raises:
        FetchError: there is no home folder.
    """
    try:
        return user_folder(HOME) / "published"
    except RuntimeError as error:
        raise FetchError(f"There is no home folder ({error}): set {HOME} to a folder.") from error


def is_offline() -> bool:
    """True if `KINEMA_OFFLINE` forbids to fetch."""
    return os.environ.get(OFFLINE, "0") not in ("", "0")


def fetch(
    network: PublishedNetwork,
    *,
    progress: Progress | None = None,
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> FetchedFile:
    """Fetches the file of a published network, unless the cache has it.

    A fetch that was interrupted goes on where it stopped. Tries `KINEMA_MIRROR` first, if it is
    set, then the addresses of the catalog. `KINEMA_OFFLINE=1` allows the cache only.

    Args:
        network: Entry of the catalog.
        progress: Called with (bytes there, bytes in all).
        patience: Waits and attempts.

    Raises:
        FetchError: no address gives the right file, or none may be asked.
        OutputError: the cache cannot be written, or its disk is too small.
    """
    if (found := _cached(network)) is not None:
        return found
    if network.state == "manual" and not network.urls:
        raise FetchError(
            f"{network.id} must be downloaded by hand: its publisher offers it behind a web page. "
            + by_hand(network)
        )
    if is_offline():
        raise FetchError(
            f"{network.id} is not in the cache ({published_home()}), and {OFFLINE} forbids to "
            f"fetch it. {by_hand(network)}"
        )
    with locked(network):
        # Another process may have fetched it while this one waited.
        return _cached(network) or _fetch(network, progress, patience)


def adopt(network: PublishedNetwork, file: Path) -> FetchedFile:
    """Copies a file that the user downloaded into the cache.

    Raises:
        FetchError: there is no such file, or it is another one than the catalog's.
        OutputError: the cache cannot be written.
    """
    if not file.is_file():
        raise FetchError(f"{file} does not exist. {by_hand(network)}")
    with locked(network):
        part = _part(network)
        with naming_write_errors(part):
            shutil.copyfile(file, part)
        try:
            return _checked_in(network, part, source=str(file))
        except SourceError as error:
            raise FetchError(f"{error} {by_hand(network)}") from error


def by_hand(network: PublishedNetwork) -> str:
    """Advice to fetch a file by hand."""
    where = network.urls[0] if network.urls else network.page
    name = f" (file {network.own_file_name})" if network.page and network.own_file_name else ""
    return (
        f"Download {where}{name} with any program, then: kinema fetch {network.id} --file FILE"
        + (f" (its SHA-256 begins with {network.sha256})" if network.sha256 else "")
    )


@contextmanager
def locked(network: PublishedNetwork) -> Iterator[None]:
    """Keeps other processes from fetching or converting the same network."""
    folder = _files()
    with naming_write_errors(folder):
        # The home folder may also hold compiled kernels, which nobody else may write.
        folder.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{_key(network)}.lock", is_singleton=True)
        try:
            lock.acquire(timeout=0.0)
        except Timeout:
            _log.info("Waiting for another process that fetches %s", network.id)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _files() -> Path:
    return published_home() / "files"


def _key(network: PublishedNetwork) -> str:
    """Beginning of the name in the cache: the known hash, or one of the address without one."""
    if network.sha256:
        return network.sha256[:8]
    address = network.urls[0] if network.urls else network.page
    return f"address-{hashlib.sha256(address.encode()).hexdigest()[:16]}"


def _part(network: PublishedNetwork) -> Path:
    return _files() / f"{_key(network)}.part"


def _cached(network: PublishedNetwork) -> FetchedFile | None:
    """The intact file in the cache; a damaged one is deleted."""
    for path in sorted(_files().glob(f"{_key(network)}*")):
        named = re.search(r"([0-9a-f]{64})\.(?:pth|safetensors)$", path.name)
        if named is None or not named[1].startswith(network.sha256):
            continue
        if _digest(path) == named[1]:
            return FetchedFile(path, named[1])
        _log.warning("%s is damaged: it is fetched again.", path)
        path.unlink(missing_ok=True)
    return None


def _fetch(network: PublishedNetwork, progress: Progress | None, patience: Patience) -> FetchedFile:
    if not network.sha256:
        _log.warning(
            "The publisher of %s states no hash: its file is opened without running code in it, "
            "but it is whatever the server sends.",
            network.id,
        )
    failures = []
    for url in _addresses(network):
        _log.info("Fetching %s", url)
        try:
            return _fetch_from(url, network, progress, patience)
        except SourceError as error:
            _log.info("%s", error)
            failures.append(str(error))
    raise FetchError(f"{network.id} could not be fetched. {' '.join(failures)} {by_hand(network)}")


def _addresses(network: PublishedNetwork) -> list[str]:
    mirror = os.environ.get(MIRROR, "")
    if not mirror:
        return list(network.urls)
    if urlsplit(mirror).scheme not in ("http", "https"):
        raise OptionError(f"{MIRROR} must be an http:// or https:// address, got {mirror!r}.")
    mirrored = f"{mirror.rstrip('/')}/{quote(file_name_of(network.urls[0]))}"
    return [mirrored, *network.urls]


def _fetch_from(
    url: str, network: PublishedNetwork, progress: Progress | None, patience: Patience
) -> FetchedFile:
    part = _part(network)
    # Without a hash, nothing would show that the beginning is of another version of the file.
    if not network.sha256:
        part.unlink(missing_ok=True)
    resumed = part.exists()
    download = Download(
        url, part, has_hash=bool(network.sha256), progress=progress, patience=patience
    )
    download.run()
    try:
        return _checked_in(network, part, source=url)
    except SourceError as error:
        if not resumed:
            raise
        # The beginning came from an earlier fetch, perhaps of another address.
        _log.info("%s Once more, from the first byte.", error)
    download.run()
    return _checked_in(network, part, source=url)


def _checked_in(network: PublishedNetwork, part: Path, *, source: str) -> FetchedFile:
    """Moves a complete file with the right hash into its place; deletes any other."""
    found = _digest(part)
    if not found.startswith(network.sha256):
        size = part.stat().st_size
        part.unlink()
        raise SourceError(
            f"{source}: wrong file: its SHA-256 is {found}, but that of {network.id} begins with "
            f"{network.sha256} ({size} bytes, deleted)."
        )
    suffix = ".safetensors" if network.own_file_name.endswith(".safetensors") else ".pth"
    name = found if network.sha256 else f"{_key(network)}-{found}"
    target = part.with_name(name + suffix)
    with naming_write_errors(target):
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
        if not network.sha256:  # the last one counts
            for older in target.parent.glob(f"{_key(network)}-*"):
                if older != target:
                    older.unlink()
        sync_folder(target.parent)
    return FetchedFile(target, found)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
