"""Saliency alignment of SME (TSI, eq. 3): similarity of a position to those of the next frame.

SME never stores the full similarity matrix; this computes the row of each requested position.

Letters: P pairs of frames, D reduced channels, H, W.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from kinema.errors import OptionError
from kinema.figures.capture import ModuleKind, find_module, run_watched
from kinema.models.network import VideoNetwork
from kinema.temporal import SME
from kinema.temporal.kernels.layout import pairs
from kinema.temporal.tsi import attend

ALIGNING = ModuleKind("saliency alignment", classes=(SME,), holders=("sme", "tsi"))

Share = tuple[float, float]  # (x, y) as fractions of width and height
Place = tuple[int, int]  # row and column of a feature map


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
    query: Place
    similarity: NDArray[np.float32]
    features: NDArray[np.float32]
    enhanced: NDArray[np.float32]

    @property
    def frames(self) -> tuple[int, int]:
        """Numbers of the two frames in the clip."""
        first = self.pair * self.frame_stride
        return first, first + self.frame_stride

    @property
    def most_similar(self) -> Place:
        """Row and column of the most similar position of frame t+1."""
        row, column = divmod(int(self.similarity.argmax()), self.similarity.shape[1])
        return row, column


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
    source = source or net.name
    chosen = find_module(net, ALIGNING, block, source=source)
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


def similarity_row(queries_DHW: torch.Tensor, keys_DHW: torch.Tensor, at: Place) -> torch.Tensor:
    """Row of the attention matrix of `attend`: (H, W), sum 1."""
    logits_HW = torch.einsum("d,dhw->hw", queries_DHW[:, at[0], at[1]], keys_DHW)
    probs_S = torch.softmax(logits_HW.flatten() * queries_DHW.shape[0] ** -0.5, 0)
    return probs_S.view_as(logits_HW)


def _place(share: Share, features_DHW: torch.Tensor) -> Place:
    height, width = features_DHW.shape[1:]
    x, y = share
    return min(int(y * height), height - 1), min(int(x * width), width - 1)


def _most_changed(
    frame_CHW: torch.Tensor, next_CHW: torch.Tensor, features_DHW: torch.Tensor
) -> Place:
    """Position in the features at which the frames differ most."""
    height, width = features_DHW.shape[1:]
    difference_1HW = (next_CHW - frame_CHW).abs().mean(0, keepdim=True)
    pooled_1HW = F.adaptive_avg_pool2d(difference_1HW, (height, width))
    row, column = divmod(int(pooled_1HW.argmax()), width)
    return row, column
