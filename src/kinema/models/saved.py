"""Saved networks: folders with `model.safetensors`, `config.json` and a model card.

The folder holds everything needed to use the network: architecture, class names and
preprocessing. Loading it executes no code from it.
"""

import glob
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kinema.errors import CheckpointError, KinemaError, check_range
from kinema.models.card import model_card
from kinema.models.network import VideoNetwork
from kinema.models.shapes_only import shapes_only
from kinema.models.weights import check_shapes, fill, read_tensors, tensor_shapes, write_tensors
from kinema.system.files import naming_write_errors, short_name
from kinema.values import Preprocessing

FORMAT = 1
WEIGHTS_FILE = "model.safetensors"
# Upper bounds of module options and clips, checked before memory is allocated.
LARGEST_OPTION = 4096
_MOST_LABELS = 1_000_000
_LARGEST_PX = 4096
_LONGEST_NAME = 200
_LONGEST_WINDOW = 1_000_000  # frames; nine hours at 30 per second
_MOST_CONFIG_BYTES = 64 << 20
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"


@dataclass(frozen=True)
class SavedModel:
    """Network with its class names and the preprocessing of its training."""

    net: VideoNetwork
    labels: tuple[str, ...]
    preprocessing: Preprocessing


def save(
    net: VideoNetwork,
    folder: str | Path,
    *,
    labels: Sequence[str],
    preprocessing: Preprocessing | None = None,
    card: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Saves a network; the folder appears atomically.

    Args:
        net: The network.
        folder: A new folder.
        labels: The K class names, in the order of the scores.
        preprocessing: Sampling and size of clips; default: the backbone's.
        card: Entries of the model card, such as {"Validation top-1": "91.2 %"};
            `kinema.models.card` lists those with a section.
        overwrite: Replaces a network that the folder holds.

    Raises:
        CheckpointError: the folder exists, or labels or preprocessing do not fit the network.
        OutputError: it cannot be written.
    """
    target = Path(folder)
    preprocessing = preprocessing or Preprocessing(
        frames=net.frames, mean=net.input_mean, std=net.input_std, snippet=net.snippet
    )
    _checked_labels(list(labels))
    _check_fits(net.spec.to_dict(), labels, preprocessing)
    if target.exists() and not (overwrite and (target / CONFIG_FILE).is_file()):
        why = (
            " and does not hold a network to overwrite" if overwrite else "; nothing is overwritten"
        )
        raise CheckpointError(f"{target} already exists{why}. Choose a new folder.")
    config = {
        "format": FORMAT,
        "kinema_version": version("kinema"),
        "network": net.spec.to_dict(),
        "labels": list(labels),
        "preprocessing": preprocessing.to_dict(),
    }
    tensors = {name: t.detach().cpu().contiguous() for name, t in net.state_dict().items()}
    with naming_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{short_name(target.name)}.", dir=target.parent))
        try:
            building.chmod(0o755)
            write_tensors(tensors, building / WEIGHTS_FILE)
            (building / WEIGHTS_FILE).chmod(0o644)
            (building / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
            text = model_card(net, labels, preprocessing, card or {})
            (building / CARD_FILE).write_text(text, "utf-8")
            _put_in_place(building, target)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
    return target


def load_saved(folder: str | Path) -> SavedModel:
    """Loads a folder written by `save`; the network is in eval mode.

    Raises:
        CheckpointError: the folder is incomplete or has a newer format, or its weights belong to
            another architecture.

    Example:
        `net = load_saved("runs/first/best").net`
    """
    root = Path(folder)
    config = read_config(root)
    with _naming(root / CONFIG_FILE):
        spec = config["network"]
        labels = _checked_labels(config["labels"])
        _check_name(spec["name"])
        _check_sizes(spec)
        preprocessing = Preprocessing.from_dict(
            config["preprocessing"], source=str(root / CONFIG_FILE)
        )
        _check_preprocessing(preprocessing)
        _check_fits(spec, labels, preprocessing)
        skeleton = _skeleton(spec)
    weights = root / WEIGHTS_FILE
    source = f"{weights} ({spec['name']})"
    if skeleton is not None:
        _refuse_unused(check_shapes(skeleton, tensor_shapes(weights), source=source), root)
    with _naming(root / CONFIG_FILE):
        net = build_from_spec(spec)
    _, unused = fill(net, read_tensors(weights), source=source)
    _refuse_unused(unused, root)
    return SavedModel(net.eval(), labels, preprocessing)


@contextmanager
def _naming(config: Path) -> Iterator[None]:
    """Names the config in the errors of its content."""
    try:
        yield
    except KinemaError as error:
        raise CheckpointError(f"{config}: {error}") from error
    except (
        AttributeError,
        LookupError,
        ArithmeticError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        raise CheckpointError(f"{config} is incomplete or damaged: {error!r}.") from error


def _skeleton(spec: Mapping[str, Any]) -> VideoNetwork | None:
    """The network without memory for its weights; None if a plugin reads weights as it builds."""
    try:
        with shapes_only():
            return build_from_spec(spec)
    # PyTorch raises it, or its subclass NotImplementedError, for values of tensors without data.
    # Any other cause comes up again, and is reported, when the network is built with memory.
    except RuntimeError:
        return None


def _refuse_unused(unused: Sequence[str], root: Path) -> None:
    if unused:
        raise CheckpointError(
            f"{root / WEIGHTS_FILE} belongs to another architecture than {root / CONFIG_FILE} "
            f"describes: it has {len(unused)} tensors without a place, such as {unused[0]}."
        )


def build_from_spec(spec: Mapping[str, Any]) -> VideoNetwork:
    """Builds the network of `NetworkSpec.to_dict`, with new weights."""
    net = VideoNetwork(
        spec["name"],
        spec["backbone"],
        classes=int(spec["classes"]),
        frames=int(spec["frames"]),
        dropout=float(spec["dropout"]),
        relations=spec.get("relations"),
    )
    if spec.get("temporal_pool", False):  # missing in folders of earlier versions
        net.pool_frames()
    if int(spec.get("snippet", 1)) != 1:
        net.take_snippets(int(spec["snippet"]))
    for insertion in spec["insertions"]:
        blocks: dict[int, list[int]] = {}
        for stage, block in insertion["blocks"]:
            blocks.setdefault(int(stage), []).append(int(block))
        net.insert(
            insertion["module"],
            at=insertion["at"],
            stages=tuple(blocks),
            blocks=blocks,
            **insertion["options"],
        )
    return net


def read_config(root: Path) -> dict[str, Any]:
    """Reads config.json of a folder.

    Raises:
        CheckpointError: the folder is not a checkpoint, is damaged, or has a newer format.
    """
    file = root / CONFIG_FILE
    if not file.is_file():
        raise CheckpointError(
            f"{root} is not a kinema checkpoint: it has no {CONFIG_FILE}. Give the folder that "
            f"holds {CONFIG_FILE} and {WEIGHTS_FILE}, such as runs/NAME/best."
        )
    if file.stat().st_size > _MOST_CONFIG_BYTES:
        raise CheckpointError(
            f"{file} has {file.stat().st_size} bytes, beyond the limit of {_MOST_CONFIG_BYTES}."
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not valid JSON: {error}.") from error
    if not isinstance(config, dict) or "format" not in config or "network" not in config:
        raise CheckpointError(f"{file} does not describe a kinema network.")
    if config["format"] != FORMAT:
        raise CheckpointError(
            f"{file} has format {config['format']}, this version of kinema reads {FORMAT}. "
            "Install a newer kinema."
        )
    return config


def _checked_labels(labels: object) -> tuple[str, ...]:
    """Class names of a config: different texts."""
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise CheckpointError("labels must be a list of texts, the class names.")
    if len(labels) > _MOST_LABELS:
        raise CheckpointError(f"{len(labels)} labels are beyond the limit of {_MOST_LABELS}.")
    if len(set(labels)) < len(labels):
        twice = next(label for label, count in Counter(labels).items() if count > 1)
        raise CheckpointError(f"labels names the class {twice!r} twice; each needs its own name.")
    return tuple(labels)


def _check_name(name: object) -> None:
    """Rejects what is no name of a network; exports and measurements name files after it."""
    if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST_NAME):
        raise CheckpointError(
            f"the name of the network must be a text of at most {_LONGEST_NAME} printable "
            f"characters, got {str(name)[:80]!r}."
        )


def _check_sizes(spec: Mapping[str, Any]) -> None:
    """Rejects absurd sizes before memory is allocated for them."""
    options = {k: v for part in spec["insertions"] for k, v in part["options"].items()}
    sizes = {"frames": spec["frames"], "snippet": spec.get("snippet", 1), **options}
    for name, value in sizes.items():
        if isinstance(value, int | float) and not abs(value) <= LARGEST_OPTION:
            raise CheckpointError(f"{name} = {value} is beyond any network.")


def _check_preprocessing(preprocessing: Preprocessing) -> None:
    """Rejects absurd sizes of clips, and parts of pixels and frames."""
    for name in ("frames", "snippet", "window_frames", "short_side_px", "crop_px"):
        value = getattr(preprocessing, name)
        if not isinstance(value, int):
            raise CheckpointError(f"{name} must be a whole number, got {value!r}.")
    check_range(at_most=_LARGEST_PX, short_side_px=preprocessing.short_side_px)
    check_range(at_least=1, at_most=_LONGEST_WINDOW, window_frames=preprocessing.window_frames)


def _check_fits(
    spec: Mapping[str, Any], labels: Sequence[str], preprocessing: Preprocessing
) -> None:
    name, classes, frames = spec["name"], int(spec["classes"]), int(spec["frames"])
    if len(labels) != classes:
        raise CheckpointError(
            f"{name} has {classes} classes, but {len(labels)} class names were given."
        )
    if preprocessing.frames != frames:
        raise CheckpointError(
            f"{name} takes {frames} frames, but the preprocessing samples {preprocessing.frames}."
        )
    snippet = int(spec.get("snippet", 1))
    if preprocessing.snippet != snippet:
        raise CheckpointError(
            f"{name} takes snippets of {snippet} frames, but the preprocessing samples "
            f"{preprocessing.snippet}."
        )


def _put_in_place(building: Path, target: Path) -> None:
    """Renames the finished folder; an older one is moved aside, then deleted."""
    if not target.exists():
        os.replace(building, target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{short_name(target.name)}.old.", dir=target.parent))
    os.replace(target, old / target.name)
    try:
        os.replace(building, target)
    finally:
        put_back(target)
    shutil.rmtree(old)


def put_back(target: Path) -> None:
    """Restores an older network after a failed or killed replacement."""
    for old in target.parent.glob(f".{glob.escape(short_name(target.name))}.old.*"):
        if not target.exists() and (old / target.name).is_dir():
            os.replace(old / target.name, target)
