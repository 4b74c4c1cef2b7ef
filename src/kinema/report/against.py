"""Own results beside the accuracies that the papers print for the same network."""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.class_lists import list_class_lists
from kinema.data.classes import read_class_names
from kinema.errors import KinemaError, OptionError, UnknownNameError
from kinema.models.network import VideoNetwork
from kinema.models.shapes_only import shapes_only
from kinema.models.zoo import create_model, family_and_backbone
from kinema.report.accuracies import Accuracy
from kinema.train.job import build_network
from kinema.train.recipe import Recipe, recipe_from

RESULTS_FILE = "results.json"
# Settings that the name of the network stands for.
_NAMING = frozenset({"model.name", "model.backbone", "model.temporal"})


@dataclass(frozen=True)
class OwnResult:
    """Top-1 accuracy of a network of one's own.

    Attributes:
        name: Variant of a sweep, or the network.
        network: Name of the network.
        family: Its temporal modules, by the name of their family.
        backbone: Its backbone.
        insertions: Its temporal modules, as in config.json.
        dataset: Class list with the same names; None for other videos.
        frames: T of a clip.
        clips: Clips of a video.
        crops: Crops of a clip.
        top1: Percent; the mean over the seeds of a sweep.
    """

    name: str
    network: str
    family: str
    backbone: str
    insertions: list[Any]
    dataset: str | None
    frames: int
    clips: int
    crops: int
    top1: float


@dataclass(frozen=True)
class Beside:
    """Own result and a printed row of the same network, with the settings that differ."""

    own: OwnResult
    row: Accuracy
    differing: tuple[str, ...]

    @property
    def points(self) -> float | None:
        """Own top-1 minus the printed one, in percentage points, if the settings agree."""
        if self.differing or self.row.top1 is None:
            return None
        return self.own.top1 - self.row.top1


def own_results(path: str | Path) -> list[OwnResult]:
    """Reads results of `kinema evaluate` (--json or --out) or `kinema sweep`.

    Args:
        path: The JSON document, or the folder with results.json.

    Raises:
        KinemaError: it is no such file, or has no accuracy.
    """
    path = Path(path)
    file = path / RESULTS_FILE if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if "cells" in document:
            return _of_sweep(document, str(file))
        return [_of_evaluation(document, str(file))]
    except KinemaError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise KinemaError(
            f"{file} has no results of `kinema evaluate --json`, `kinema evaluate --out` or "
            f"`kinema sweep`: {error!r}."
        ) from error


def beside_printed(own: Sequence[OwnResult], rows: Iterable[Accuracy]) -> list[Beside]:
    """Pairs own results with the printed rows of the same network in the nearest setting.

    Networks are the same if they have the same temporal modules at the same places; backbone, data
    set, frames, clips and crops are settings. Of every own result only the rows are given that
    differ in the fewest settings. A setting that the paper does not state counts as equal.

    Raises:
        UnknownNameError: no paper prints an accuracy of any of the networks.
    """
    printed = [row for row in rows if row.top1 is not None and row.network is not None]
    pairs: list[Beside] = []
    for result in own:
        of_network = [
            Beside(result, row, _differing(result, row))
            for row in printed
            if _is_same_network(result, row)
        ]
        fewest = min((len(pair.differing) for pair in of_network), default=0)
        pairs += [pair for pair in of_network if len(pair.differing) == fewest]
    if not pairs:
        networks = ", ".join(dict.fromkeys(result.network for result in own))
        raise UnknownNameError(f"None of the chosen rows is about a network of these: {networks}.")
    return pairs


def _of_evaluation(document: Mapping[str, Any], source: str) -> OwnResult:
    if document["top1"] is None:
        raise OptionError(f"{source} has no accuracy: its videos have no labels.")
    network, views = document["network"], document["views"]
    family, backbone = family_and_backbone(network["name"])
    return OwnResult(
        name=network["name"],
        network=network["name"],
        family=family,
        backbone=backbone,
        insertions=network["insertions"],
        dataset=_dataset_of(row["name"] for row in document["per_class"]),
        frames=network["frames"],
        clips=views["clips"],
        crops=views["crops"],
        top1=100 * document["top1"],
    )


def _of_sweep(document: Mapping[str, Any], source: str) -> list[OwnResult]:
    class_names = document["cells"][0]["tests"]["val"]["classes"]
    dataset = _dataset_of(class_names)
    results = []
    for row in document["rows"]:
        recipe = _recipe_of(document, row, source)
        with shapes_only():  # only the places of the modules are needed
            net = build_network(recipe.model, classes=len(class_names), load_weights=False)
        family, backbone = family_and_backbone(net.name)
        results.append(
            OwnResult(
                name=row["variant"],
                network=net.name,
                family=family,
                backbone=backbone,
                insertions=_insertions(net),
                dataset=dataset,
                frames=net.frames,
                clips=recipe.evaluation.clips,
                crops=recipe.evaluation.crops,
                top1=100 * row["tests"]["val"]["top1"],
            )
        )
    return results


def _recipe_of(document: Mapping[str, Any], row: Mapping[str, Any], source: str) -> Recipe:
    """Recipe of a variant of a sweep.

    The document has the recipe of the first variant: settings that any variant changes are left
    out of it.
    """
    changed = {word.partition("=")[0] for words in document["variants"].values() for word in words}
    sections = {key: document["recipe"][key] for key in ("model", "data", "evaluation")}
    shared = _without(sections, changed | _NAMING)
    words = [
        word
        for word in document["variants"][row["variant"]]
        if word.startswith(("model.", "evaluation.")) and word.partition("=")[0] not in _NAMING
    ]
    if "parts" in shared["model"] or any(word.startswith("model.parts=") for word in words):
        shared["model"]["backbone"] = family_and_backbone(row["model"])[1]
    else:
        shared["model"]["name"] = row["model"]
    return recipe_from(shared, source=source, overrides=words)


def _without(table: Mapping[str, Any], keys: Set[str], prefix: str = "") -> dict[str, Any]:
    """The nested tables without the dotted keys."""
    return {
        key: _without(value, keys, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in table.items()
        if prefix + key not in keys
    }


def _dataset_of(class_names: Iterable[str]) -> str | None:
    names = set(class_names)
    known = (name for name in list_class_lists() if set(read_class_names(name)) == names)
    return next(known, None)


def _is_same_network(own: OwnResult, row: Accuracy) -> bool:
    """True if the row's modules on the own backbone are the own ones."""
    family, _ = family_and_backbone(row.network or "")
    if family != own.family:
        return False
    options = json.dumps(dict(row.options))
    return _printed_insertions(f"{family}_{own.backbone}", own.frames, options) == own.insertions


@functools.cache
def _printed_insertions(name: str, frames: int, options: str) -> list[Any] | None:
    """Modules of a network with the options of a row (JSON); None if they do not fit it."""
    try:
        with shapes_only():
            return _insertions(create_model(name, classes=2, frames=frames, **json.loads(options)))
    except KinemaError:
        return None


def _insertions(net: VideoNetwork) -> list[Any]:
    """Plain data, as in config.json."""
    plain: list[Any] = json.loads(json.dumps(net.spec.to_dict()["insertions"]))
    return plain


def _differing(own: OwnResult, row: Accuracy) -> tuple[str, ...]:
    """Settings in which an own result and a row differ, each with both values."""
    _, backbone = family_and_backbone(row.network or "")
    settings = (
        ("backbone", own.backbone.partition(".")[0], backbone),
        ("data set", own.dataset or "other videos", row.dataset),
        ("frames", str(own.frames), row.frames),
        ("clips", own.clips, row.clips),
        ("crops", own.crops, row.crops),
    )
    return tuple(
        f"{name}: {ours}, not {printed}"
        for name, ours, printed in settings
        if printed is not None and ours != printed
    )
