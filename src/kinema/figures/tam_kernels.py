"""TAM's kernels and gates on sets of clips, as in the paper's appendix A.4.

Letters: n clips, T frames, C channels, K taps.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.figures.adaptive_kernels import (
    ADAPTIVE,
    AdaptiveKernels,
    adaptive_kernels,
    shared_kernels,
)
from kinema.figures.capture import no_such_block
from kinema.figures.shown_clip import ShownClip, beside_by_folder
from kinema.models.network import VideoNetwork
from kinema.system.files import whole_file

ByOffset = Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True)
class KernelStudy:
    """Kernels that a network makes for n clips, by block."""

    label: str  # name in the figures: the network, or the set of clips
    shown: tuple[ShownClip, ...]
    made: Mapping[str, Sequence[AdaptiveKernels]]  # of each clip, by block

    @property
    def motion(self) -> NDArray[np.float64]:
        """`ShownClip.motion` of each clip, (n,)."""
        return np.array([one.motion for one in self.shown])


@dataclass(frozen=True)
class SharedStudy:
    """Weights of the temporal convolutions of a network, by block and offset."""

    label: str
    weights: Mapping[str, ByOffset]


def study_kernels(
    net: VideoNetwork,
    clips: Iterable[ShownClip],
    *,
    blocks: Sequence[str] | None = None,
    label: str | None = None,
    source: str | None = None,
) -> KernelStudy:
    """Runs a network, in eval mode, on one or more clips.

    By default the study has the last block with a TAM of each stage and the network's name.

    Raises:
        SiteError: the network has no TAM.
        UnknownNameError: a block has none.
    """
    shown = tuple(beside_by_folder(list(clips)))
    made: dict[str, list[AdaptiveKernels]] = {}
    for one in shown:
        of_clip = {found.block: found for found in adaptive_kernels(net, one.clip, source=source)}
        for block in _chosen(list(of_clip), blocks, source or net.name):
            made.setdefault(block, []).append(of_clip[block])
    return KernelStudy(label or net.name, shown, made)


def study_shared(
    net: VideoNetwork,
    blocks: Iterable[str],
    *,
    label: str | None = None,
    source: str | None = None,
) -> SharedStudy:
    """Reads the temporal convolutions of a network, such as an I3D, in the blocks of a study.

    Raises:
        SiteError: the network has none.
        UnknownNameError: it has none in one of the blocks.
    """
    weights = {block: shared_kernels(net, block, source=source) for block in blocks}
    return SharedStudy(label or net.name, weights)


def kernel_summary(
    studies: Sequence[KernelStudy], shared: Sequence[SharedStudy] = ()
) -> list[dict[str, Any]]:
    """Minimum, median and maximum weight by block, clip or network to compare, and offset."""
    rows = []
    for block in studies[0].made:
        columns: list[tuple[str, str, ByOffset]] = [
            (study.label, shown.name, weights_by_offset([one]))
            for study in studies
            for shown, one in zip(study.shown, study.made[block], strict=True)
        ]
        columns += [(other.label, other.label, other.weights[block]) for other in shared]
        for label, name, weights in columns:
            rows += [
                {
                    "set": label,
                    "block": block,
                    "of": name,
                    "offset": offset,
                    "min": round(float(values.min()), 6),
                    "median": round(float(np.median(values)), 6),
                    "max": round(float(values.max()), 6),
                }
                for offset, values in weights.items()
            ]
    return rows


def center_weight(one: AdaptiveKernels) -> NDArray[np.float32]:
    """Weight of every kernel on its own frame: Theta at t = 0."""
    center: NDArray[np.float32] = one.kernels[..., one.offsets.index(0)].ravel()
    return center


def write_kernels(studies: Sequence[KernelStudy], shared: Sequence[SharedStudy], out: Path) -> None:
    """Writes the data of the figures as .npz.

    clips and motion (n,); for every block BLOCK_offsets (K,), BLOCK_theta (n, C, T or 1, K),
    BLOCK_v (n, C, T) if there is a local branch, and BLOCK_shared_OFFSET of a network to compare.
    Names of a second study or network begin with "2_", and so on; sets and shared are their labels.
    """
    arrays: dict[str, Any] = {
        "sets": np.array([study.label for study in studies]),
        "shared": np.array([other.label for other in shared], dtype=str),
    }
    for number, study in enumerate(studies, start=1):
        of = f"{number}_" if number > 1 else ""
        arrays[f"{of}clips"] = np.array([shown.name for shown in study.shown])
        arrays[f"{of}motion"] = study.motion
        for block, made in study.made.items():
            arrays[f"{of}{block}_offsets"] = np.array(made[0].offsets)
            arrays[f"{of}{block}_theta"] = np.stack([one.kernels for one in made])
            gates = [one.gates for one in made if one.gates is not None]
            if gates:
                arrays[f"{of}{block}_v"] = np.stack(gates)
    for number, other in enumerate(shared, start=1):
        of = f"{number}_" if number > 1 else ""
        for block, weights in other.weights.items():
            for offset, values in weights.items():
                arrays[f"{of}{block}_shared_{offset:+d}"] = values
    with whole_file(out) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _chosen(having: Sequence[str], wanted: Sequence[str] | None, source: str) -> list[str]:
    """Returns the given blocks, or the last one of each stage."""
    if wanted is None:
        return list({block.partition(".")[0]: block for block in having}.values())
    for block in wanted:
        if block not in having:
            raise no_such_block(having, block, ADAPTIVE, source=source)
    return list(dict.fromkeys(wanted))


def weights_by_offset(several: Sequence[AdaptiveKernels]) -> dict[int, NDArray[np.float32]]:
    """All kernel weights of a block on some clips, by offset in frames."""
    return {
        offset: np.concatenate([one.kernels[..., tap].ravel() for one in several])
        for tap, offset in enumerate(several[0].offsets)
    }
