"""`kinema push`: a checkpoint folder into a repository of the Hugging Face Hub."""

from pathlib import Path
from typing import Annotated

import typer

from kinema.cli.console import JsonOption, print_json, results


def push(
    folder: Annotated[Path, typer.Argument(help="Checkpoint folder, such as runs/NAME/best.")],
    address: Annotated[str, typer.Argument(help="hf://OWNER/REPOSITORY or with @BRANCH.")],
    message: Annotated[str | None, typer.Option(help="Message of the commit.")] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Upload a checkpoint folder to the Hugging Face Hub; commands then take its hf:// address.

    The folder is loaded first as a check. HF_TOKEN holds the access token, HF_ENDPOINT the address
    of another hub.

    Example: kinema push runs/first/best hf://owner/waving
    """
    from kinema.models.published.hub import HubAddress
    from kinema.models.published.hub import push as upload

    url = upload(folder, HubAddress.parse(address), message=message, private=private)
    if as_json:
        print_json({"address": address, "commit": url})
    else:
        results().print(url)
