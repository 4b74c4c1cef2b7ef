"""Saliency alignment of pairs of frames: the figure of TSI (figure 3).

Letters: P pairs, D reduced channels, H, W.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinema.models.insight import Alignment
from kinema.report.figures import save_png, shortened
from kinema.report.panels import MAPS, colour_bar, strip_rows
from kinema.report.shown_clip import ShownClip

QUERY_COLOUR, FOUND_COLOUR = "#ff2d2d", "#ffe600"


Place = tuple[int, int]  # row and column of a feature map


@dataclass(frozen=True)
class AlignedPair:
    """An alignment with the clip it is of."""

    shown: ShownClip
    alignment: Alignment

    @property
    def frames(self) -> tuple[int, int]:
        """The two frames, counted in the clip."""
        first = self.alignment.pair * self.alignment.frame_stride
        return first, first + self.alignment.frame_stride


def alignment_summary(pairs: Sequence[AlignedPair]) -> list[dict[str, Any]]:
    """Of each pair the clip, the place, and how sharp and how far the similarity is."""
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
    """One row for each pair: both frames, the similarity of a place, features before and after.

    Features are drawn as their mean absolute value over the channels. Each map goes from 0 to the
    value above it, because alignment changes the range.

    Args:
        pairs: All of one block.
        network: Stands in the title.
        out: PNG file to write, too.

    Returns:
        The PNG.
    """
    title = (
        f"{network}, saliency alignment of {pairs[0].alignment.block}\n"
        "red: the place that is looked for, yellow: the most similar place of the next frame"
    )
    names = [shortened(pair.shown.name) for pair in pairs]
    figure, strips = strip_rows(names, 5, title, cell_in=1.9)
    for strip, pair in zip(strips, pairs, strict=True):
        one, (first, second) = pair.alignment, pair.frames
        grid = one.similarity.shape
        for cell, t in enumerate((first, second)):
            strip.show(cell, pair.shown.frames[t])
            strip.say(cell, f"frame t{'+1' * cell}, {pair.shown.when(t)}")
            strip.mark(cell, one.query, grid, QUERY_COLOUR)
        strip.mark(1, _most_similar(one), grid, FOUND_COLOUR)
        maps = {
            "similarity": one.similarity,
            "features of t+1": np.abs(one.features).mean(0),
            "aligned": np.abs(one.enhanced).mean(0),
        }
        for cell, (name, values) in enumerate(maps.items(), start=2):
            top = float(values.max())
            image = strip.show(cell, values / (top or 1), cmap=MAPS, vmin=0, vmax=1)
            strip.say(cell, f"{name}, max {top:.3g}")
    colour_bar(figure, image, strips, "share of the map's largest value")
    return save_png(figure, out)


def write_alignment(pairs: Sequence[AlignedPair], out: Path) -> None:
    """The numbers behind the figure as .npz.

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
