"""Cache folder: its contents are executed or trusted, so only its user may write to it."""

import functools
import logging
import os
from pathlib import Path

from kinema.system.temporary_folder import TemporaryFolder

_log = logging.getLogger(__name__)


def user_folder(variable: str) -> Path:
    """Folder that kinema keeps for a user.

    The value of the environment variable, else `$XDG_CACHE_HOME/kinema`, else `~/.cache/kinema`.

    Args:
        variable: "KINEMA_CACHE" for what only this machine and user may use, "KINEMA_HOME" for
            fetched networks, which several may share.

    Raises:
        RuntimeError: there is no home folder.
    """
    own, cache = os.environ.get(variable), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own).expanduser().absolute()
    return (Path(cache) if cache else Path.home() / ".cache").absolute() / "kinema"


def cache_folder(name: str = "") -> Path:
    """Folder for compiled kernels and for results measured on this machine, created if needed.

    `user_folder("KINEMA_CACHE")`. If it cannot be created, or if others can write to it, one
    warning says so, and a new folder serves this process and is deleted at its end.

    Args:
        name: A folder inside it, with the same rule.
    """
    try:
        folder = user_folder("KINEMA_CACHE")
        for part in (folder, folder / name):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_private(part)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        folder = _folder_of_process(str(error)).path
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    return folder / name


def check_private(path: Path, *, own_group: bool = False) -> None:
    """Checks that no other user can have written a file or folder.

    Args:
        path: The file or folder.
        own_group: Accepts one that the user's private group can write to, as with umask 002.

    Raises:
        PermissionError: it belongs to another user, or others can write to it.
    """
    if os.name != "posix":  # elsewhere it inherits the rights of the user's home folder
        return
    facts = path.stat()
    if facts.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to another user")
    trusted_group = own_group and _is_private_group(facts.st_gid)
    if facts.st_mode & (0o002 if trusted_group else 0o022):
        raise PermissionError(f"other users can write to {path}: chmod go-w makes it usable")


@functools.cache  # one for each reason, with one warning; deleted when the process ends
def _folder_of_process(reason: str) -> TemporaryFolder:
    _log.warning(
        "The cache folder is not used (%s): what is compiled and measured serves this process "
        "only. Set KINEMA_CACHE to a folder that only you can write to.",
        reason,
    )
    return TemporaryFolder("cache")


@functools.cache
def _is_private_group(number: int) -> bool:
    """True for a group that has the user's name and no other member."""
    import grp  # both exist on Unix only
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(number)
    except KeyError:
        return False
    # The group 0 is shared by the users of many containers.
    return number != 0 and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
