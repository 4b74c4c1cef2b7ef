"""Sets of `kinema figures`: networks with clips that stand side by side in one figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from kinema.models.saved import CONFIG_FILE


@dataclass(frozen=True)
class FigureSet:
    """A saved network and its clips."""

    checkpoint: Path
    clips: tuple[Path, ...]
    label: str | None  # None for the network's name


def read_sets(
    checkpoint: Path, clips: Sequence[Path], beside: Sequence[str], labels: Sequence[str]
) -> list[FigureSet]:
    """The first network with its clips, and one set for each text of --beside.

    Raises:
        typer.BadParameter: a text names several networks or nothing, or labels are missing.
    """
    pairs = [(checkpoint, tuple(clips)), *(_pair(text, checkpoint, clips) for text in beside)]
    if labels and len(labels) != len(pairs):
        raise typer.BadParameter(
            f"expected a label for each of the {len(pairs)} sets, got {len(labels)}",
            param_hint="--label",
        )
    names = labels or _differences(pairs)
    return [FigureSet(*pair, name) for pair, name in zip(pairs, names, strict=True)]


def _pair(text: str, checkpoint: Path, clips: Sequence[Path]) -> tuple[Path, tuple[Path, ...]]:
    paths = [Path(word) for word in text.split(",") if word]
    networks = [path for path in paths if (path / CONFIG_FILE).is_file()]
    others = tuple(path for path in paths if path not in networks)
    missing = [str(path) for path in others if not path.exists()]
    if missing:
        raise typer.BadParameter(f"{', '.join(missing)} does not exist", param_hint="--beside")
    if not paths or len(networks) > 1:
        raise typer.BadParameter(
            f"expected clips, a network, or NETWORK,CLIPS, got {text!r}", param_hint="--beside"
        )
    return networks[0] if networks else checkpoint, others or tuple(clips)


def _differences(pairs: Sequence[tuple[Path, tuple[Path, ...]]]) -> list[str | None]:
    """Labels of the sets: networks and clips by the names in which they differ."""
    if len(pairs) == 1:
        return [None]
    parts: list[list[str]] = [[] for _ in pairs]
    if len({checkpoint for checkpoint, _ in pairs}) > 1:
        for part, (checkpoint, _) in zip(parts, pairs, strict=True):
            part.append(_network_name(checkpoint))
    if len({clips for _, clips in pairs}) > 1:
        for part, (_, clips) in zip(parts, pairs, strict=True):
            part.append(clips[0].stem + (" ..." if len(clips) > 1 else ""))
    return [", ".join(part) or None for part in parts]


def _network_name(checkpoint: Path) -> str:
    """Name of a run: its folder, above "best" or "last"."""
    inside = checkpoint.name in ("best", "last") and checkpoint.parent.name
    return checkpoint.parent.name if inside else checkpoint.name
