"""Transfer from a network that was trained on other classes, with a new classifier."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from kinema.errors import CheckpointError
from kinema.models.network import VideoNetwork
from kinema.models.saved import CONFIG_FILE, WEIGHTS_FILE, read_config
from kinema.models.weights import fill, read_tensors
from kinema.values import Preprocessing, WeightsReport

_HEAD = "head."


def holds_network(weights: str | Path) -> bool:
    """Checks whether this is a whole kinema network (its folder or model.safetensors)."""
    path = Path(weights)
    if str(weights) == "imagenet":  # published weights, even if a folder has the same name
        return False
    if path.suffix != ".safetensors" or not path.is_file():
        return path.is_dir()
    try:
        with safe_open(path, framework="pt") as file:
            return any(name.startswith(_HEAD) for name in file.keys())  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}.") from error


def load_network(net: VideoNetwork, weights: str | Path) -> WeightsReport:
    """Loads backbone and temporal modules of a trained network.

    Args:
        net: The new network; its classifier keeps its random initialization, even for the same
            number of classes.
        weights: Folder written by `save`, or its model.safetensors. The folder must have the same
            backbone with the same temporal modules at the same sites; the file only needs the
            same tensors.

    Raises:
        CheckpointError: the networks differ, or the checkpoint cannot be read.
    """
    path = Path(weights)
    source, file = str(path), path
    if path.is_dir():
        theirs = read_config(path)["network"]
        _check_same_network(net, theirs, path)
        source += f" ({theirs['name']}, {theirs['classes']} classes)"
        file = path / WEIGHTS_FILE
    tensors = read_tensors(file)
    new = {name: t for name, t in net.state_dict().items() if name.startswith(_HEAD)}
    left = tuple(sorted(name for name in tensors if name.startswith(_HEAD)))
    copied, unused = fill(net, {**tensors, **new}, source=source)
    unused = [name for name in unused if not name.startswith(_HEAD)]
    if unused:
        raise CheckpointError(
            f"{source} has {len(unused)} tensors without a place in {net.name}, such as "
            f"{unused[0]}. Start from a checkpoint of the same network."
        )
    return WeightsReport(
        source=source,
        copied=tuple(name for name in copied if name not in new),
        new=tuple(new),
        unused=left,
    )


def check_same_input(weights: str | Path, preprocessing: Preprocessing) -> None:
    """Checks that colors are normalized as in the folder's training.

    Raises:
        CheckpointError: mean or standard deviation differ from the folder's.
    """
    folder = Path(weights)
    if not (folder.is_dir() and holds_network(weights)):
        return
    source = str(folder / CONFIG_FILE)
    theirs = Preprocessing.from_dict(read_config(folder)["preprocessing"], source=source)
    for key in ("mean", "std"):
        wanted, used = getattr(theirs, key), getattr(preprocessing, key)
        if wanted != used:
            raise CheckpointError(
                f"{folder} was trained with {key} {list(wanted)} of the colors, now it is "
                f"{list(used)}. Set preprocessing.{key} to {list(wanted)}."
            )


def _check_same_network(net: VideoNetwork, theirs: dict[str, Any], folder: Path) -> None:
    ours = json.loads(json.dumps(net.spec.to_dict()))
    ours, theirs = ({"temporal_pool": False, "snippet": 1, **spec} for spec in (ours, theirs))
    compared = ("backbone", "temporal_pool", "snippet", "insertions")
    if any(theirs[key] != ours[key] for key in compared):
        alone = f", or give {folder / WEIGHTS_FILE} to load the weights only"
        if theirs["backbone"] != ours["backbone"]:
            alone = ""
        raise CheckpointError(
            f"{folder} holds {_described(theirs)}; built here is {_described(ours)}. Build the "
            f"same network{alone}."
        )
    if theirs["frames"] != net.frames and net.reach.frames_in_weights:
        raise CheckpointError(
            f"{folder} was trained on {theirs['frames']} frames, on which weights of {net.name} "
            f"depend; here it has {net.frames}. Resample them first: kinema import {folder} "
            f"--frames {net.frames} --out NEW"
        )


def _described(spec: dict[str, Any]) -> str:
    """Describes a network, such as "resnet50 with tim before_conv1 in 16 blocks (init=random)"."""
    modules = ["a temporal pool"] if spec["temporal_pool"] else []
    if spec["snippet"] > 1:
        modules.append(f"a short-term branch on snippets of {spec['snippet']} frames")
    for insertion in spec["insertions"]:
        options = ", ".join(f"{key}={value}" for key, value in insertion["options"].items())
        modules.append(
            f"{insertion['module']} {insertion['at']} in {len(insertion['blocks'])} blocks"
            + (f" ({options})" if options else "")
        )
    return f"{spec['backbone']} with {' and '.join(modules) or 'no temporal module'}"
