"""Videos at addresses: s3://, gs://, http:// and https:// through fsspec.

A video is copied to a temporary file: its frame index needs every packet, and the copy lets the
decoders for untrusted videos stay without network access. An address is a text; a `Path` would
merge its slashes. Messages show neither user names and passwords nor queries, which hold the
signatures of signed addresses.
"""

import errno
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

import fsspec

from kinema.errors import KinemaError, UnreadableVideoError, missing_extra
from kinema.system.temporary_folder import TemporaryFolder

_STORES = ("s3", "gs")
SCHEMES = (*_STORES, "http", "https")

_ACCESS = {
    "s3": "Give credentials as for the AWS command line (AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY), or FSSPEC_S3_ANON=true for a public bucket",
    "gs": "Give credentials in GOOGLE_APPLICATION_CREDENTIALS, or FSSPEC_GS_TOKEN=anon for a "
    "public bucket",
    "http": "The address needs a user and password, or its signature has expired",
}
_REACH = {
    "s3": "Check the network, and AWS_ENDPOINT_URL for servers other than Amazon's",
    "gs": "Check the network",
    "http": "Check the network and the address",
}
# Errors of botocore and google-auth, which are not installed everywhere.
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
# aiohttp ends every download after five minutes; only silence is an end.
_CONNECT_S, _SILENCE_S = 15, 60


def is_url(source: str | Path) -> bool:
    """True for the text of an address that fsspec reads."""
    return isinstance(source, str) and source.lower().startswith(
        tuple(f"{scheme}://" for scheme in SCHEMES)
    )


def without_secrets(source: str | Path) -> str:
    """The text of a path, or of an address without user, password and query."""
    if not is_url(source):
        return str(source)
    parts = urlsplit(str(source))
    query = "..." if parts.query else ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query, fragment="").geturl()


def url_in(root: str, path: str) -> str:
    """Address of a relative path in a remote folder."""
    name = quote(path, safe="/%") if root.lower().startswith("http") else path
    return f"{root.rstrip('/')}/{name}"


def parent_url(url: str) -> str:
    """Address of the folder of a file, without its query."""
    parts = urlsplit(url)
    return parts._replace(path=parts.path.rpartition("/")[0], query="", fragment="").geturl()


def suffix_of(url: str) -> str:
    """Suffix of the file at an address, in small letters."""
    return PurePosixPath(urlsplit(url).path).suffix.lower()


def check_client(url: str) -> None:
    """Raises MissingExtraError if the packages for the scheme of an address are missing."""
    _file_system(url)


def files_below(url: str) -> list[str]:
    """Addresses of the files in a folder of a store, sorted; of a file, its own.

    Raises:
        MissingExtraError: the packages for this scheme are not installed.
        UnreadableVideoError: the folder cannot be listed.
    """
    if _scheme(url) == "http":
        return [url]
    store, place = _file_system(url)
    with _naming(url):
        store.invalidate_cache()  # of an earlier listing
        if not url.endswith("/") and store.isfile(place):
            return [url]
        folder = place.rstrip("/") + "/"
        return [url_in(url, name.removeprefix(folder)) for name in sorted(store.find(place))]


@contextmanager
def local_file(source: str | Path) -> Iterator[str | Path]:
    """Yields a path as it is, or for an address a temporary copy that is removed at the end.

    Errors in the block name the address instead of the copy.

    Raises:
        MissingExtraError: the packages for the address are not installed.
        UnreadableVideoError: it cannot be read; the message names the address and the fix.
    """
    if not is_url(source):
        yield source
        return
    url = str(source)
    store, place = _file_system(url)
    with TemporaryFolder("remote") as folder:
        copy = folder.path / f"copy{suffix_of(url)[:16]}"
        with _naming(url):
            _check_room(store.size(place), folder.path)
            store.get_file(place, str(copy))
        try:
            yield copy
        except KinemaError as error:
            raise type(error)(str(error).replace(str(copy), without_secrets(url))) from error


def _scheme(url: str) -> str:
    """The scheme in small letters; "http" also for https."""
    return url.partition("://")[0].lower().replace("https", "http")


def _file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the address in its form."""
    options: dict[str, Any] = {}
    scheme = _scheme(url)
    try:
        if scheme == "http":
            import aiohttp

            silence = aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S
            )
            options["client_kwargs"] = {"timeout": silence}
        store, place = fsspec.url_to_fs(url, **options)
    except ImportError as error:
        cause = error if error.name else error.__cause__
        package = getattr(cause, "name", None) or scheme
        raise missing_extra(f"Reading {scheme}:// addresses", package, "remote") from error
    return store, place


def _check_room(size: int | None, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if size is not None and size > free:
        raise OSError(errno.ENOSPC, f"{size >> 20} MB, {free >> 20} MB free")


@contextmanager
def _naming(url: str) -> Iterator[None]:
    """Turns any error of a client into one that names the address, the reason and the fix."""
    try:
        yield
    except Exception as error:  # every client has classes of its own, without a common base
        raise UnreadableVideoError(
            f"{without_secrets(url)} cannot be read: {_reason(error, url)}."
        ) from None  # the cause may quote the secrets


def _reason(error: Exception, url: str) -> str:
    scheme = _scheme(url)
    if scheme == "http" and isinstance(error, FileNotFoundError):
        # What fsspec makes of every failure to get the size.
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status == 404:
        return "it does not exist. Check the address"
    if getattr(error, "errno", None) == errno.ENOSPC:
        return (
            f"its temporary copy does not fit into {tempfile.gettempdir()} ({error.strerror}). "  # type: ignore[attr-defined]
            "Name a larger folder in TMPDIR"
        )
    if (
        isinstance(error, PermissionError)
        or status in (401, 403)
        or type(error).__name__ in _NO_CREDENTIALS
    ):
        return f"access is refused. {_ACCESS[scheme]}"
    if isinstance(error, TimeoutError):
        return f"there was no answer in time. {_REACH[scheme]}"
    if status is not None:
        return f"the server answered {status}. {_REACH[scheme]}"
    text = str(error).replace(url, without_secrets(url))
    text = re.sub(r"://[^/\s]*@", "://", text)  # user and password
    text = re.sub(r"\?\S+", "?...", text).strip().rstrip(".")
    return f"{text[:1].lower()}{text[1:300]} ({type(error).__name__}). {_REACH[scheme]}"
