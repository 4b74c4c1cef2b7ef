"""Names of published networks become checkpoint folders: fetched and converted once."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

from kinema.errors import CheckpointError
from kinema.models.convert.importer import import_checkpoint
from kinema.models.published.catalog import (
    PublishedNetwork,
    find_published,
    is_on_hub,
    looks_published,
    published_for,
)
from kinema.models.published.download import Progress
from kinema.models.published.fetch import FetchedFile, adopt, fetch, locked, published_home
from kinema.models.published.hub import HubAddress, pull
from kinema.models.saved import CARD_FILE, CONFIG_FILE, save

_log = logging.getLogger(__name__)

# Part of the names of converted folders: raise it if the same file is to be converted anew.
_CONVERSION = 1


def checkpoint_folder(checkpoint: str | Path, *, progress: Progress | None = None) -> Path:
    """Path of a checkpoint; for a published network or an hf:// address a folder in the cache.

    Args:
        checkpoint: A path, which comes first, a name such as "tsm_resnet50:kinetics400", or an
            address such as "hf://owner/repository@revision".
        progress: Called with (bytes fetched, bytes in all).

    Raises:
        UnknownNameError: neither a path nor a published network.
        FetchError: its file cannot be fetched; the message says how to get it by hand.
        CheckpointError: the file does not fit the network of the catalog.
        OutputError: the cache cannot be written.
        OptionError: the address is incomplete.
        MissingExtraError: an hf:// address without huggingface_hub.

    Example:
        `checkpoint_folder("tsm_resnet50:kinetics400")`
    """
    path = Path(checkpoint)
    if path.exists():
        return path
    if is_on_hub(str(checkpoint)):
        return pull(HubAddress.parse(str(checkpoint)))
    if not looks_published(str(checkpoint)):
        return path
    return published_folder(find_published(str(checkpoint)), progress=progress)


def published_folder(network: PublishedNetwork, *, progress: Progress | None = None) -> Path:
    """Folder of a published network in the cache; fetched and converted the first time.

    Raises:
        FetchError: its file cannot be fetched.
        CheckpointError: the file does not fit the network of the catalog.
        OutputError: the cache cannot be written.
    """
    folder = _folder_of(network)
    if (folder / CONFIG_FILE).is_file():
        return folder
    return _converted(network, lambda: fetch(network, progress=progress))


def weights_folder(weights: str | Path, model: str) -> str | Path:
    """Start weights of a new network: a published network's folder for its name or data set.

    Args:
        weights: As in `create_model`; "kinetics400" is short for MODEL:kinetics400. Also an hf://
            address.
        model: Name of the new network.

    Raises:
        UnknownNameError: no weights of this network on this data set were published.
    """
    text = str(weights)
    if text != "imagenet" and not Path(weights).exists() and (name := published_for(model, text)):
        text = name
    return checkpoint_folder(text) if looks_published(text) or is_on_hub(text) else weights


def adopt_file(network: PublishedNetwork, file: Path) -> Path:
    """Converts a file that the user downloaded; from then on its name works.

    Raises:
        FetchError: the file does not exist, or its hash is not the catalog's.
        CheckpointError: it does not fit the network of the catalog.
    """
    return _converted(network, lambda: adopt(network, file))


def _converted(network: PublishedNetwork, get: Callable[[], FetchedFile]) -> Path:
    folder = _folder_of(network)
    with locked(network):
        fetched = get()
        if _holds(folder, fetched):
            return folder
        try:
            _convert(network, fetched, folder)
        except CheckpointError:
            # Only with a hash is it known to be the publisher's file; any other is fetched again.
            if not network.sha256:
                fetched.path.unlink()
            raise
    return folder


def _folder_of(network: PublishedNetwork) -> Path:
    """Folder of the converted network; entries that change in a later version get another one."""
    facts = {
        "conversion": _CONVERSION,
        "model": network.model,
        "options": dict(network.options),
        "preprocessing": network.preprocessing.to_dict(),
        "class_list": network.class_list,
        "sha256": network.sha256[:8],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    return published_home() / "networks" / f"{network.id.replace(':', '-')}-{digest}"


def _holds(folder: Path, fetched: FetchedFile) -> bool:
    """True if the folder was converted from this file, which its card names."""
    card = folder / CARD_FILE
    return card.is_file() and fetched.sha256 in card.read_text(encoding="utf-8")


def _convert(network: PublishedNetwork, fetched: FetchedFile, folder: Path) -> None:
    _log.info("Converting %s", network.id)
    imported = import_checkpoint(
        fetched.path, model=network.model, frames=network.frames, **network.options
    )
    net = imported.net
    if imported.file_frames not in (None, network.frames):
        raise CheckpointError(
            f"{fetched.path} was trained on {imported.file_frames} frames, but the catalog has "
            f"{network.frames} for {network.id}: it is another file."
        )
    names = network.class_names
    if names is None:
        _log.warning(
            "The classes of %s are named by their numbers: kinema has no list of them in the order "
            "of the file. `kinema import %s --labels LIST --out FOLDER` names them.",
            *(network.id, network.id),
        )
        names = tuple(str(label) for label in range(net.classes))
    wanted = network.classes or net.classes
    if not net.classes == wanted == len(names):
        raise CheckpointError(
            f"{fetched.path} has {net.classes} classes, but the catalog has {wanted} for "
            f"{network.id}: it is another file."
        )
    save(
        net,
        folder,
        labels=names,
        preprocessing=network.preprocessing,
        card=_card(network, fetched),
        overwrite=True,
    )


def _card(network: PublishedNetwork, fetched: FetchedFile) -> dict[str, str]:
    """Entries of the model card: source, licenses, hash, and what differs from the publisher."""
    of = network.publisher
    card = {
        "Published as": f"{network.id} in the catalog of kinema ({network.state})",
        "Imported from": f"{of.name}: {(*network.urls, network.page)[0]} "
        f"({of.source}, commit {of.commit}, {network.source_file})",
        "SHA-256 of the file": fetched.sha256,
        "Cite": of.citation,
        "License": network.license,
    }
    if network.printed:
        best = network.printed[0]
        top5 = "" if best.top5 is None else f", top-5 {best.top5} %"
        card["Printed by the publisher"] = (
            f"top-1 {best.top1} %{top5} ({best.protocol}); not measured with kinema"
        )
    if points := network.differences:
        card["Other than the publisher"] = "; ".join(points)
    return card
