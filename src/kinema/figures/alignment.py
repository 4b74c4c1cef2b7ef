"""Saliency alignment of SME (TSI, eq. 3): similarity of a position to those of the next frame.

SME never stores the full similarity matrix; this computes the row of each requested position.

Letters: P pairs of frames, D reduced channels, H, W.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from kinema.errors import OptionError
from kinema.figures.capture import (
    ModuleKind,
    check_one_clip,
    find_modules,
    in_block,
    run_watched,
)
from kinema.figures.panels import MAPS, color_bar, strip_rows
from kinema.figures.shown_clip import ShownClip
from kinema.models.network import VideoNetwork
from kinema.report.plots import save_png, shortened
from kinema.temporal import SME
from kinema.temporal.kernels.layout import pairs
from kinema.temporal.tsi import attend

ALIGNING = ModuleKind("saliency alignment", classes=(SME,), holders=("sme", "tsi"))

Share = tuple[float, float]


@dataclass(frozen=True)
class Alignment:
    """Alignment of a position of frame t with frame t+1.

    Attributes:
        block: Block, such as "res2.0".
        pair: t, in the frames that the block sees.
        frame_stride: Frames of the clip per frame of the block.
        query: Row and column of the position.
        similarity: softmax(q K^T / sqrt(D)) over the positions of frame t+1, (H, W), sum 1.
        features: Reduced features of frame t+1, (D, H, W).
        enhanced: Features after alignment, multiplied by the attention's output.
    """

    block: str
    pair: int
    frame_stride: int
    query: tuple[int, int]
    similarity: NDArray[np.float32]
    features: NDArray[np.float32]
    enhanced: NDArray[np.float32]


def align_frames(
    net: VideoNetwork,
    clip: torch.Tensor,
    *,
    frame_pairs: Sequence[int] | None = None,
    query: Share | None = None,
    block: str | None = None,
    source: str | None = None,
) -> list[Alignment]:
    """Runs the network on a clip and returns an alignment per pair of frames.

    Args:
        net: The network, in eval mode.
        clip: (1, T, 3, H, W) float, normalized.
        frame_pairs: t of each pair (t, t+1), from 0; the middle one by default.
        query: Position in frame t as fractions (x, y) of width and height; by default where the
            two frames differ most.
        block: Such as "res2.0"; the first one with an SME by default.
        source: Source of the network, for messages.

    Raises:
        SiteError: the network has no SME.
        UnknownNameError: the block has none.
        OptionError: the SME was built without alignment, or a pair or position is outside the clip.
    """
    check_one_clip(net, clip)
    source = source or net.name
    found = find_modules(net, ALIGNING, source=source)
    chosen = in_block(found, block or found[0].block, ALIGNING, source=source)
    sme = chosen.module
    assert isinstance(sme, SME)
    if not sme.alignment:
        raise OptionError(f"{source} was built with alignment=False: its SME aligns no frames.")
    if frame_pairs is None:
        frame_pairs = [max(sme.frames - 2, 0) // 2]
    _check_choice(frame_pairs, query, sme.frames, where=f"{chosen.block} of {source}")
    (passed,) = run_watched(net, clip, [sme.reduce])
    present_PDHW, following_PDHW = (both[0] for both in pairs(passed.returned, sme.frames))
    shown = clip[0, :: chosen.frame_stride]
    made = []
    for t in frame_pairs:
        queries, keys = present_PDHW[t], following_PDHW[t]
        at = _place(query, queries) if query else _most_changed(shown[t], shown[t + 1], queries)
        with torch.no_grad():
            enhanced_DHW = keys * attend(queries[None], keys[None])[0]
            similarity_HW = similarity_row(queries, keys, at)
        made.append(
            Alignment(
                block=chosen.block,
                pair=t,
                frame_stride=chosen.frame_stride,
                query=at,
                similarity=similarity_HW.float().cpu().numpy(),
                features=keys.float().cpu().numpy(),
                enhanced=enhanced_DHW.float().cpu().numpy(),
            )
        )
    return made


def _check_choice(
    frame_pairs: Sequence[int], query: Share | None, frames: int, *, where: str
) -> None:
    last = frames - 2
    for pair in frame_pairs:
        if not 0 <= pair <= last:
            raise OptionError(
                f"There is no frame pair {pair}: {where} sees {frames} frames, so "
                + (f"pairs are numbered 0 to {last}." if last >= 0 else "there are no pairs.")
            )
    if query is not None and not all(0 <= share <= 1 for share in query):
        raise OptionError(f"A position is two fractions between 0 and 1, got {query}.")


def similarity_row(
    queries_DHW: torch.Tensor, keys_DHW: torch.Tensor, at: tuple[int, int]
) -> torch.Tensor:
    """Row of the attention matrix of `attend`: (H, W), sum 1."""
    logits_HW = torch.einsum("d,dhw->hw", queries_DHW[:, at[0], at[1]], keys_DHW)
    probs_S = torch.softmax(logits_HW.flatten() * queries_DHW.shape[0] ** -0.5, 0)
    return probs_S.view_as(logits_HW)


def _place(share: Share, features_DHW: torch.Tensor) -> tuple[int, int]:
    height, width = features_DHW.shape[1:]
    x, y = share
    return min(int(y * height), height - 1), min(int(x * width), width - 1)


def _most_changed(
    frame_CHW: torch.Tensor, next_CHW: torch.Tensor, features_DHW: torch.Tensor
) -> tuple[int, int]:
    """Position in the features at which the frames differ most."""
    height, width = features_DHW.shape[1:]
    difference_1HW = (next_CHW - frame_CHW).abs().mean(0, keepdim=True)
    pooled_1HW = F.adaptive_avg_pool2d(difference_1HW, (height, width))
    row, column = divmod(int(pooled_1HW.argmax()), width)
    return row, column


QUERY_COLOR, FOUND_COLOR = "#ff2d2d", "#ffe600"


Place = tuple[int, int]  # row and column of a feature map


@dataclass(frozen=True)
class AlignedPair:
    """Alignment with its clip."""

    shown: ShownClip
    alignment: Alignment

    @property
    def frames(self) -> tuple[int, int]:
        """Numbers of the two frames in the clip."""
        first = self.alignment.pair * self.alignment.frame_stride
        return first, first + self.alignment.frame_stride


def alignment_summary(pairs: Sequence[AlignedPair]) -> list[dict[str, Any]]:
    """Summarizes each pair: clip, position, and sharpness and distance of the similarity."""
    rows = []
    for pair in pairs:
        one = pair.alignment
        rows.append(
            {
                "path": str(pair.shown.path),
                "pair": one.pair,
                "frame_indices": [pair.shown.frame_indices[t] for t in pair.frames],
                "query": list(one.query),
                "most_similar": list(_most_similar(one)),
                "similarity": round(float(one.similarity.max()), 6),
                "uniform": round(1 / one.similarity.size, 6),
            }
        )
    return rows


def draw_alignment(pairs: Sequence[AlignedPair], *, network: str, out: Path | None = None) -> bytes:
    """Draws a row per pair: both frames, the similarity of a position, features before and after.

    Features are drawn as mean absolute value over the channels. Each map has its own scale, from
    0 to the value above it, since alignment changes the range.

    Args:
        pairs: Pairs of the same block.
        network: Name of the network, for the title.
        out: Optional PNG file to write.

    Returns:
        PNG data.
    """
    title = (
        f"{network}, saliency alignment of {pairs[0].alignment.block}\n"
        "red: query position, yellow: most similar position of the next frame"
    )
    names = [shortened(pair.shown.name) for pair in pairs]
    figure, strips = strip_rows(names, 5, title, cell_in=1.9)
    for strip, pair in zip(strips, pairs, strict=True):
        one, (first, second) = pair.alignment, pair.frames
        grid = one.similarity.shape
        for cell, t in enumerate((first, second)):
            strip.show(cell, pair.shown.frames[t])
            strip.say(cell, f"frame t{'+1' * cell}, {pair.shown.when(t)}")
            strip.mark(cell, one.query, grid, QUERY_COLOR)
        strip.mark(1, _most_similar(one), grid, FOUND_COLOR)
        maps = {
            "similarity": one.similarity,
            "features of t+1": np.abs(one.features).mean(0),
            "aligned": np.abs(one.enhanced).mean(0),
        }
        for cell, (name, values) in enumerate(maps.items(), start=2):
            top = float(values.max())
            image = strip.show(cell, values / (top or 1), cmap=MAPS, vmin=0, vmax=1)
            strip.say(cell, f"{name}, max {top:.3g}")
    color_bar(figure, image, strips, "fraction of the map's maximum")
    return save_png(figure, out)


def write_alignment(pairs: Sequence[AlignedPair], out: Path) -> None:
    """Writes the data of the figure as .npz.

    paths (P,), pairs (P,), queries (P, 2) as row and column, frame_indices (P, 2), frames
    (P, 2, H, W, 3), and of the block similarity (P, h, w), features and enhanced (P, D, h, w).
    """
    alignments = [pair.alignment for pair in pairs]
    np.savez_compressed(
        out,
        paths=np.array([str(pair.shown.path) for pair in pairs]),
        pairs=np.array([one.pair for one in alignments]),
        queries=np.array([one.query for one in alignments]),
        frame_indices=np.array([[p.shown.frame_indices[t] for t in p.frames] for p in pairs]),
        frames=np.stack([p.shown.frames[list(p.frames)] for p in pairs]),
        similarity=np.stack([one.similarity for one in alignments]),
        features=np.stack([one.features for one in alignments]),
        enhanced=np.stack([one.enhanced for one in alignments]),
    )


def _most_similar(one: Alignment) -> Place:
    row, column = divmod(int(one.similarity.argmax()), one.similarity.shape[1])
    return row, column
