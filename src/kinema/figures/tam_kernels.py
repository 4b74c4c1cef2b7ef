"""Figures of TAM's kernels and gates on clips, as in the paper's appendix A.4.

Letters: n clips, T frames, C channels, K taps.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.errors import OptionError
from kinema.figures.adaptive_kernels import (
    ADAPTIVE,
    AdaptiveKernels,
    adaptive_kernels,
    shared_kernels,
)
from kinema.figures.capture import no_such_block
from kinema.figures.shown_clip import ShownClip
from kinema.models.network import VideoNetwork
from kinema.report.plots import DPI, RUN_COLORS, Figure, save_png, shortened

# Clips with their own column; the paper shows four.
SHOWN_CLIPS = 4
VIOLIN, SHARED_VIOLIN = "#1f6feb", "#d9822b"
OFFSET_COLORS = ("#1f6feb", "#57606a", "#d9822b", "#2da44e", "#8250df")
BINS = 60

ByOffset = Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True)
class KernelStudy:
    """Kernels of blocks on n clips, and optionally those of a network to compare."""

    network: str
    clips: tuple[str, ...]
    motion: NDArray[np.float64]  # `ShownClip.motion` of each clip
    made: Mapping[str, Sequence[AdaptiveKernels]]  # of each clip, by block
    shared_by: str | None = None  # name of the other network, with temporal convolutions
    shared: Mapping[str, ByOffset] = field(default_factory=dict)  # its weights by block


def study_kernels(
    net: VideoNetwork,
    clips: Iterable[ShownClip],
    *,
    blocks: Sequence[str] | None = None,
    source: str | None = None,
) -> KernelStudy:
    """Runs a network, in eval mode, on one or more clips.

    By default the study has the last block with a TAM of each stage.

    Raises:
        SiteError: the network has no TAM.
        UnknownNameError: a block has none.
    """
    names, motion = [], []
    made: dict[str, list[AdaptiveKernels]] = {}
    for shown in clips:
        of_clip = {one.block: one for one in adaptive_kernels(net, shown.clip, source=source)}
        for block in _chosen(list(of_clip), blocks, source or net.name):
            made.setdefault(block, []).append(of_clip[block])
        names.append(shown.name)
        motion.append(shown.motion)
    return KernelStudy(net.name, tuple(names), np.array(motion), made)


def beside(study: KernelStudy, net: VideoNetwork, *, source: str | None = None) -> KernelStudy:
    """Adds the temporal convolutions of another network in the same blocks.

    Raises:
        SiteError: the other network has none.
        UnknownNameError: it has none in one of the blocks.
    """
    shared = {block: shared_kernels(net, block, source=source) for block in study.made}
    return replace(study, shared_by=net.name, shared=shared)


def kernel_summary(study: KernelStudy) -> list[dict[str, Any]]:
    """Minimum, median and maximum weight by block, clip (or the other network) and offset."""
    rows = []
    for block, made in study.made.items():
        columns: list[tuple[str, ByOffset]] = [
            (name, _by_offset([one])) for name, one in zip(study.clips, made, strict=True)
        ]
        if study.shared_by is not None:
            columns.append((study.shared_by, study.shared[block]))
        for name, weights in columns:
            rows += [
                {
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


def off_frame_weight(one: AdaptiveKernels) -> NDArray[np.float32]:
    """Fraction of each kernel's weight on other frames, 1 - Theta_0."""
    shares: NDArray[np.float32] = 1 - one.kernels[..., one.offsets.index(0)]
    return shares.ravel()


def draw_violins(study: KernelStudy, out: Path | None = None) -> bytes:
    """Draws kernel weights by offset, with blocks as rows and clips as columns.

    A violin covers the whole range, with lines at minimum, median and maximum. Clips of a row
    share a scale; the other network has its own.
    """
    titles = [shortened(name) for name in study.clips[:SHOWN_CLIPS]]
    titles += [f"all {len(study.clips)} clips"] if len(study.clips) > 1 else []
    titles += [f"{shortened(study.shared_by)}\n(own scale)"] if study.shared_by is not None else []
    title = f"{study.network}: temporal kernels by offset (minimum, median, maximum)"
    columns = len(titles)
    figure, plots = _grid(study, columns, (1.9 * columns + 1, 2.1, 0.8), title)
    for row, (block, made) in zip(plots, study.made.items(), strict=True):
        pooled = [[one] for one in made[:SHOWN_CLIPS]] + ([made] if len(made) > 1 else [])
        for plot, several in zip(row, pooled, strict=False):
            _violins(plot, _by_offset(several), VIOLIN)
            plot.sharey(row[0])
            plot.tick_params(labelleft=plot is row[0])
        row[0].set_ylabel(f"{block}\nkernel weight")
        if study.shared_by is not None:
            _violins(row[-1], study.shared[block], SHARED_VIOLIN)
    for top, bottom, text in zip(plots[0], plots[-1], titles, strict=True):
        top.set_title(text, fontsize=7.5, parse_math=False)
        bottom.set_xlabel("offset in frames")
    return save_png(figure, out)


def draw_distributions(study: KernelStudy, out: Path | None = None) -> bytes:
    """Draws distributions of gates V (local branch) and kernels Theta (global branch).

    Thin gray lines are single clips.
    """
    title = f"{study.network}: gates and kernels on {_counted(study)}"
    figure, plots = _grid(study, 2, (8, 2.3, 0.7), title)
    outline = {"bins": np.linspace(0, 1, BINS + 1), "density": True, "histtype": "step"}
    for (left, right), (block, made) in zip(plots, study.made.items(), strict=True):
        gates = [one.gates.ravel() for one in made if one.gates is not None]
        if gates:
            for values in gates if len(gates) > 1 else ():
                left.hist(values, color="#c8cdd4", lw=0.6, **outline)
            left.hist(np.concatenate(gates), color=VIOLIN, lw=1.6, **outline)
        else:
            left.text(0.5, 0.5, "no local branch", ha="center", transform=left.transAxes)
        for color, (offset, values) in zip(
            cycle(OFFSET_COLORS), _by_offset(made).items(), strict=False
        ):
            right.hist(values, color=color, lw=1.6, label=_offset_text(offset), **outline)
        right.legend(title="offset", frameon=False, fontsize=8, title_fontsize=8)
        left.set_ylabel(f"{block}\ndensity")
        for plot in (left, right):
            plot.set_xlim(0, 1)
    plots[-1][0].set_xlabel("gate V of a channel and frame (local branch)")
    plots[-1][1].set_xlabel("kernel weight Theta (global branch)")
    return save_png(figure, out)


def draw_motion(study: KernelStudy, out: Path | None = None) -> bytes:
    """Draws the weight on other frames against the motion of the clips.

    Left: histograms of clips with less and more motion than the median. Right: median and
    quartiles over the channels of each clip, on the same scale.

    Raises:
        OptionError: there is only one clip.
    """
    if len(study.clips) < 2:
        raise OptionError("Kernels against motion need at least two clips, got one.")
    title = f"{study.network}: kernels against motion on {_counted(study)}"
    figure, plots = _grid(study, 2, (9, 2.4, 0.7), title)
    order = np.argsort(study.motion, kind="stable")
    half = (len(order) + 1) // 2
    groups = (("small", order[:half], RUN_COLORS[1]), ("large", order[half:], RUN_COLORS[2]))
    for (left, right), (block, made) in zip(plots, study.made.items(), strict=True):
        shares = [off_frame_weight(one) for one in made]
        low = min(float(values.min()) for values in shares)
        high = max(float(values.max()) for values in shares)
        edges = np.linspace(low, max(high, low + 1e-6), BINS // 2 + 1)
        for name, members, color in groups:
            values = np.concatenate([shares[i] for i in members])
            motion = study.motion[members]
            label = f"{name} motion ({len(members)}: {motion.min():.1f} to {motion.max():.1f})"
            left.hist(values, edges, density=True, alpha=0.55, color=color, label=label)
            quarters = np.stack([np.quantile(shares[i], (0.25, 0.5, 0.75)) for i in members], 1)
            reach = np.abs(quarters[[0, 2]] - quarters[1])
            right.errorbar(motion, quarters[1], yerr=reach, fmt="o", capsize=3, color=color)
        left.legend(frameon=False, fontsize=8)
        left.set_ylabel(f"{block}\ndensity")
        right.set_ylim(edges[0], edges[-1])
        right.set_ylabel("median, quartiles")
    plots[-1][0].set_xlabel("kernel weight on other frames,\n1 - Theta at offset 0")
    plots[-1][1].set_xlabel("motion: mean absolute difference of\nconsecutive frames, gray levels")
    return save_png(figure, out)


def write_kernels(study: KernelStudy, out: Path) -> None:
    """Writes the data of the figures as .npz.

    clips and motion (n,); for every block BLOCK_offsets (K,), BLOCK_theta (n, C, T or 1, K),
    BLOCK_v (n, C, T) if there is a local branch, and BLOCK_shared_OFFSET of the other network.
    """
    arrays: dict[str, Any] = {"clips": np.array(study.clips), "motion": study.motion}
    for block, made in study.made.items():
        arrays[f"{block}_offsets"] = np.array(made[0].offsets)
        arrays[f"{block}_theta"] = np.stack([one.kernels for one in made])
        if made[0].gates is not None:
            arrays[f"{block}_v"] = np.stack([one.gates for one in made if one.gates is not None])
        for offset, weights in study.shared.get(block, {}).items():
            arrays[f"{block}_shared_{offset:+d}"] = weights
    np.savez_compressed(out, **arrays)


def _chosen(having: Sequence[str], wanted: Sequence[str] | None, source: str) -> list[str]:
    """Returns the given blocks, or the last one of each stage."""
    if wanted is None:
        return list({block.partition(".")[0]: block for block in having}.values())
    for block in wanted:
        if block not in having:
            raise no_such_block(having, block, ADAPTIVE, source=source)
    return list(dict.fromkeys(wanted))


def _by_offset(several: Sequence[AdaptiveKernels]) -> dict[int, NDArray[np.float32]]:
    return {
        offset: np.concatenate([one.kernels[..., tap].ravel() for one in several])
        for tap, offset in enumerate(several[0].offsets)
    }


def _grid(
    study: KernelStudy, columns: int, size_in: tuple[float, float, float], title: str
) -> tuple[Figure, Any]:
    """Figure and plots of a row per block; its width, height of a row and rest, in inches."""
    rows = len(study.made)
    width, row, rest = size_in
    figure = Figure(figsize=(width, row * rows + rest), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=10, parse_math=False)
    plots = figure.subplots(rows, columns, squeeze=False)
    for plot in plots.flat:
        plot.grid(axis="y", alpha=0.25)
        plot.spines[["top", "right"]].set_visible(False)
    return figure, plots


def _violins(plot: Any, weights: ByOffset, color: str) -> None:
    parts = plot.violinplot(list(weights.values()), list(weights), widths=0.8, showmedians=True)
    for body in parts["bodies"]:
        body.set(facecolor=color, alpha=0.45)
    for name in ("cbars", "cmins", "cmaxes", "cmedians"):
        parts[name].set(color=color, linewidth=1)
    plot.set_xticks(list(weights), [_offset_text(offset) for offset in weights])
    plot.tick_params(labelsize=8)


def _offset_text(offset: int) -> str:
    return f"{offset:+d}" if offset else "0"


def _counted(study: KernelStudy) -> str:
    return f"{len(study.clips)} clip{'s' if len(study.clips) > 1 else ''}"
