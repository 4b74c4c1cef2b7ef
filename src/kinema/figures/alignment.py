"""Saliency alignment of SME (TSI, eq. 3): similarity of positions to those of the next frame.

SME never stores the full similarity matrix; this computes the rows of the requested positions, and
the matrix between the cells of a coarse grid.

Letters: P pairs of frames, Q requested positions, D reduced channels, H, W, S = H*W, G*G cells.
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

QUERIES = 3  # positions by default
GRID = 14  # cells of the matrix along each side, at most
_ROWS = 1024  # rows of the full matrix in memory at a time


@dataclass(frozen=True)
class Alignment:
    """Alignment of Q positions of frame t with frame t+1.

    Attributes:
        block: Block, such as "res2.0".
        pair: t, in the frames that the block sees.
        frame_stride: Frames of the clip per frame of the block.
        queries: Row and column of each position.
        similarity: softmax(q K^T / sqrt(D)) over the positions of frame t+1, (Q, H, W), sum 1.
        matrix: softmax(Q K^T / sqrt(D)) between the cells of frame t (rows) and those of frame
            t+1: mean over the positions of a row's cell of their sums over a column's cell,
            (G*G, G*G). Rows have sum 1.
        features: Reduced features of frame t+1, (D, H, W).
        enhanced: Features after alignment, multiplied by the attention's output.
        gain: Mean absolute value of the attention's output over the channels, (H, W).
    """

    block: str
    pair: int
    frame_stride: int
    queries: tuple[Place, ...]
    similarity: NDArray[np.float32]
    matrix: NDArray[np.float32]
    features: NDArray[np.float32]
    enhanced: NDArray[np.float32]
    gain: NDArray[np.float32]

    @property
    def frames(self) -> tuple[int, int]:
        """Numbers of the two frames in the clip."""
        first = self.pair * self.frame_stride
        return first, first + self.frame_stride

    @property
    def most_similar(self) -> tuple[Place, ...]:
        """Row and column of the most similar position of frame t+1 for each query."""
        width = self.similarity.shape[2]
        best = self.similarity.reshape(len(self.queries), -1).argmax(1).tolist()
        return tuple(divmod(index, width) for index in best)


def align_frames(
    net: VideoNetwork,
    clip: torch.Tensor,
    *,
    frame_pairs: Sequence[int] | None = None,
    queries: Sequence[Share] | None = None,
    block: str | None = None,
    source: str | None = None,
) -> list[Alignment]:
    """Runs the network on a clip and returns an alignment per pair of frames.

    Args:
        net: The network, in eval mode.
        clip: (1, T, 3, H, W) float, normalized.
        frame_pairs: t of each pair (t, t+1), from 0; the middle one by default.
        queries: Positions in frame t as fractions (x, y) of width and height; by default three
            that lie apart, where the two frames differ most.
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
    _check_choice(frame_pairs, queries, sme.frames, where=f"{chosen.block} of {source}")
    (passed,) = run_watched(net, clip, [sme.reduce])
    present_PDHW, following_PDHW = (both[0] for both in pairs(passed.returned, sme.frames))
    shown = clip[0, :: chosen.frame_stride]
    made = []
    for t in frame_pairs:
        present, keys = present_PDHW[t], following_PDHW[t]
        if queries is None:
            at = _most_changed(shown[t], shown[t + 1], keys)
        else:
            at = tuple(_place(share, keys) for share in queries)
        with torch.no_grad():
            output_DHW = attend(present[None], keys[None])[0]
            similarity_QHW = torch.stack([similarity_row(present, keys, place) for place in at])
            matrix = similarity_matrix(present, keys)
        made.append(
            Alignment(
                block=chosen.block,
                pair=t,
                frame_stride=chosen.frame_stride,
                queries=at,
                similarity=similarity_QHW.float().cpu().numpy(),
                matrix=matrix.float().cpu().numpy(),
                features=keys.float().cpu().numpy(),
                enhanced=(keys * output_DHW).float().cpu().numpy(),
                gain=output_DHW.abs().mean(0).float().cpu().numpy(),
            )
        )
    return made


def _check_choice(
    frame_pairs: Sequence[int], queries: Sequence[Share] | None, frames: int, *, where: str
) -> None:
    last = frames - 2
    for pair in frame_pairs:
        if not 0 <= pair <= last:
            raise OptionError(
                f"There is no frame pair {pair}: {where} sees {frames} frames, so "
                + (f"pairs are numbered 0 to {last}." if last >= 0 else "there are no pairs.")
            )
    if queries is not None and not queries:
        raise OptionError("Expected at least one position, got none.")
    for query in queries or ():
        if not all(0 <= share <= 1 for share in query):
            raise OptionError(f"A position is two fractions between 0 and 1, got {query}.")


def similarity_row(queries_DHW: torch.Tensor, keys_DHW: torch.Tensor, at: Place) -> torch.Tensor:
    """Row of the attention matrix of `attend`: (H, W), sum 1."""
    logits_HW = torch.einsum("d,dhw->hw", queries_DHW[:, at[0], at[1]], keys_DHW)
    probs_S = torch.softmax(logits_HW.flatten() * queries_DHW.shape[0] ** -0.5, 0)
    return probs_S.view_as(logits_HW)


def similarity_matrix(
    queries_DHW: torch.Tensor, keys_DHW: torch.Tensor, *, grid: int = GRID
) -> torch.Tensor:
    """Attention matrix of `attend` between cells: (G*G, G*G), with rows of sum 1."""
    height, width = queries_DHW.shape[1:]
    down, across = min(grid, height), min(grid, width)
    rows = torch.arange(height, device=keys_DHW.device) * down // height
    columns = torch.arange(width, device=keys_DHW.device) * across // width
    cells_S = (rows[:, None] * across + columns).flatten()
    member_SG = F.one_hot(cells_S, down * across).to(keys_DHW.dtype)
    share_SG = member_SG / member_SG.sum(0)
    queries_SD, keys_DS = queries_DHW.flatten(1).T, keys_DHW.flatten(1)
    matrix_GG = keys_DHW.new_zeros(down * across, down * across)
    for some_SD, share in zip(
        torch.split(queries_SD, _ROWS), torch.split(share_SG, _ROWS), strict=True
    ):
        probs = torch.softmax(some_SD @ keys_DS * len(keys_DS) ** -0.5, 1)
        matrix_GG += share.T @ (probs @ member_SG)
    return matrix_GG


def _place(share: Share, features_DHW: torch.Tensor) -> Place:
    height, width = features_DHW.shape[1:]
    x, y = share
    return min(int(y * height), height - 1), min(int(x * width), width - 1)


def _most_changed(
    frame_CHW: torch.Tensor, next_CHW: torch.Tensor, features_DHW: torch.Tensor
) -> tuple[Place, ...]:
    """Positions in the features at which the frames differ most, a fifth of a side apart."""
    height, width = features_DHW.shape[1:]
    difference_1HW = (next_CHW - frame_CHW).abs().mean(0, keepdim=True)
    pooled_HW = F.adaptive_avg_pool2d(difference_1HW, (height, width))[0].clone()
    found: list[Place] = []
    while len(found) < QUERIES and pooled_HW.isfinite().any():
        row, column = divmod(int(pooled_HW.argmax()), width)
        found.append((row, column))
        up, left = row - height // 5, column - width // 5
        near = (
            slice(max(up, 0), row + height // 5 + 1),
            slice(max(left, 0), column + width // 5 + 1),
        )
        pooled_HW[near] = -torch.inf
    return tuple(found)
