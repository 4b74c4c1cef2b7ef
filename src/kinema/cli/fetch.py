"""`kinema fetch`: published networks into the cache, before they are used."""

from pathlib import Path
from typing import Annotated

import typer

from kinema.cli.console import JsonOption, find_checkpoint, print_json, results


def fetch(
    name: Annotated[
        str, typer.Argument(help="Published network, such as tsm_resnet50:kinetics400.")
    ],
    file: Annotated[
        Path | None, typer.Option(help="File of the network that you downloaded yourself.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch and convert a published network; from then on its name works offline.

    Other commands do the same when they are given the name. KINEMA_HOME is the folder of the
    networks, KINEMA_MIRROR an address to try first, KINEMA_OFFLINE=1 forbids to fetch.

    Example: kinema fetch tam_resnet50:kinetics400 --file ckpt.best.pth.tar
    """
    from kinema.models.published.catalog import find_published

    network = find_published(name)
    if file is None:
        folder = find_checkpoint(Path(network.id))
    else:
        from kinema.models.published.folder import adopt_file

        folder = adopt_file(network, file)
    if as_json:
        print_json({"id": network.id, "folder": str(folder)})
    else:
        results().print(str(folder))
