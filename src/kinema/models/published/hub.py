"""Checkpoint folders in repositories of the Hugging Face Hub: hf://OWNER/REPOSITORY[@REVISION].

`HF_ENDPOINT` and `HF_TOKEN` mean what they mean for all programs of the hub; folders are kept in
`$KINEMA_HOME/hub`, and `KINEMA_OFFLINE=1` takes them from there.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.errors import CheckpointError, FetchError, OptionError, missing_extra
from kinema.models.published.fetch import is_offline, published_home
from kinema.models.saved import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, load_saved

FILES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE)
# A path of the system has lost the second slash.
_ADDRESS = re.compile(r"hf:/{1,2}(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class HubAddress:
    """Repository of the hub, and the branch, tag or commit in it; by default the main branch."""

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> "HubAddress":
        """Reads hf://OWNER/REPOSITORY[@REVISION].

        Raises:
            OptionError: the text is no such address.

        Example:
            >>> HubAddress.parse("hf://owner/waving@v2")
            HubAddress(repository='owner/waving', revision='v2')
        """
        found = _ADDRESS.fullmatch(text)
        if found is None:
            raise OptionError(
                f"{text!r} is no address of the hub: expected hf://OWNER/REPOSITORY or "
                "hf://OWNER/REPOSITORY@REVISION."
            )
        return cls(found["repository"], found["revision"])

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")


def pull(address: HubAddress) -> Path:
    """Folder in the cache with the checkpoint of a repository; only its three files are fetched.

    Raises:
        FetchError: it cannot be fetched.
        CheckpointError: the repository holds no checkpoint of kinema.
        MissingExtraError: huggingface_hub is not installed.
    """
    api = _api()
    with _naming(address, "fetched"):
        folder = Path(
            api.snapshot_download(
                address.repository,
                revision=address.revision,
                allow_patterns=list(FILES),
                cache_dir=published_home().parent / "hub",
                local_files_only=is_offline(),
            )
        )
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{address} is not a kinema checkpoint: it has no {' and no '.join(missing)}. "
            "`kinema push FOLDER` uploads one."
        )
    return folder


def push(
    folder: str | Path, address: HubAddress, *, message: str | None = None, private: bool = False
) -> str:
    """Uploads a checkpoint folder as one commit; makes the repository or branch if needed.

    Args:
        folder: Folder written by training or by `kinema.save`, which is loaded first as a check.
        address: Repository and branch.
        message: Message of the commit.
        private: Makes a new repository private.

    Returns:
        Web address of the commit.

    Raises:
        CheckpointError: the folder is not a checkpoint.
        OptionError: `private`, but the repository exists and is public.
        FetchError: the hub refuses it or cannot be reached.
        MissingExtraError: huggingface_hub is not installed.
    """
    api, name = _api(), load_saved(folder).net.name
    with _naming(address, "uploaded"):
        api.create_repo(address.repository, private=private, exist_ok=True)
        is_public = private and not api.model_info(address.repository).private
    if is_public:
        raise OptionError(
            f"{address} exists already and is public: choose another name, or upload it without "
            "--private."
        )
    with _naming(address, "uploaded"):
        if address.revision is not None:
            api.create_branch(address.repository, branch=address.revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=address.repository,
            folder_path=folder,
            allow_patterns=list(FILES),
            revision=address.revision,
            commit_message=message or f"{name}, saved by kinema",
        )
    return str(commit.commit_url)


def _api() -> Any:
    try:
        import httpx2  # noqa: F401 - its errors are those of the client since version 2
        from huggingface_hub import HfApi
    except ImportError as error:
        raise missing_extra("An hf:// address", "huggingface_hub 2", "hub") from error
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="kinema")


@contextmanager
def _naming(address: HubAddress, done: str) -> Iterator[None]:
    """Names the address in the errors of the hub's client."""
    import httpx2

    try:
        yield
    # Its own errors are an OSError or ValueError, too.
    except (httpx2.HTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FetchError(
            f"{address} cannot be {done}: {reason[:300]} A private repository needs HF_TOKEN."
        ) from error
