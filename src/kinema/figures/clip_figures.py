"""Figures of clips: the maps of channel attention, saliency alignment and Grad-CAM.

Each kind has a summary (rows of plain data), a drawing (PNG data) and a file of its arrays (.npz).
Letters: T frames, R frames of a map, K classes, P pairs of frames, D channels, H, W, h, w.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from kinema.errors import OptionError
from kinema.figures.alignment import Alignment
from kinema.figures.channel_attention import ChannelAttention
from kinema.figures.grad_cam import CamMaps
from kinema.figures.panels import HEAT, MAPS, Strip, color_bar, strip_rows
from kinema.figures.shown_clip import ShownClip, clip_titles
from kinema.report.plots import save_png, shortened
from kinema.system.files import whole_file

LETTERS = 16  # of a name at the side of a strip
EACH_END = 2  # channels of highest and of lowest attention that are shown by default
CELLS = 8  # frames of a clip in a row; of longer clips every second one, and so on
QUERY_COLORS = ("#ff2d2d", "#ffe600", "#00e5ff", "#ff66ff", "#7dff4d", "#ffffff")

AlignedPair = tuple[ShownClip, Alignment]


def choose_channels(seen: ChannelAttention, wanted: Sequence[int] | None = None) -> list[int]:
    """Returns the given channels, or those of highest and lowest mean attention, highest first.

    Raises:
        OptionError: a channel does not exist.
    """
    channels = seen.attention.shape[1]
    if wanted is None:
        order = np.argsort(-seen.means, kind="stable").tolist()
        wanted = [*order[:EACH_END], *order[-EACH_END:]]
    for channel in wanted:
        if not 0 <= channel < channels:
            raise OptionError(
                f"{seen.module} of {seen.block} has channels 0 to {channels - 1}, "
                f"so there is no channel {channel}."
            )
    return list(dict.fromkeys(wanted))


def attention_summary(seen: ChannelAttention, channels: Sequence[int]) -> list[dict[str, Any]]:
    """Summarizes the mean attention of each channel, and its attention per frame."""
    return [
        {
            "channel": channel,
            "mean": round(float(seen.means[channel]), 6),
            "attention": [round(float(a), 6) for a in seen.attention[:, channel]],
        }
        for channel in channels
    ]


def draw_attention(
    shown: ShownClip,
    seen: ChannelAttention,
    channels: Sequence[int],
    *,
    network: str,
    out: Path | None = None,
) -> bytes:
    """Draws the frames and, below them, the input and output maps of each channel."""
    times, every = _shown_times(len(seen.attention))
    sign = "+" if seen.residual else ""  # an added part may be negative, a factor is not
    form = "x + A x" if seen.residual else "A x"
    lone = "" if seen.compared.all() else "; * frame without a neighbor to compare"
    title = f"{network}, {seen.module} of {seen.block}: output = {form}{lone}{every}"
    names = ["clip"]
    for channel in channels:
        names += [f"channel {channel}\ninput x", f"mean A {seen.means[channel]:{sign}.3f}\noutput"]
    figure, (top, *rows) = strip_rows(names, len(times), title)
    for cell, t in enumerate(times):
        number = t * seen.frame_stride
        top.show(cell, shown.frames[number], shown.when(number))
    for channel, above, below in zip(channels, rows[::2], rows[1::2], strict=True):
        inputs, outputs = seen.inputs[:, channel], seen.outputs[:, channel]
        ends = {"vmin": np.min([inputs, outputs]), "vmax": np.max([inputs, outputs])}
        for cell, t in enumerate(times):
            above.show(cell, inputs[t], cmap=MAPS, **ends)
            star = "" if seen.compared[t] else "*"
            text = f"A = {seen.attention[t, channel]:{sign}.3f}{star}"
            image = below.show(cell, outputs[t], text, cmap=MAPS, **ends)
        color_bar(figure, image, [above, below])
    return save_png(figure, out)


def write_attention(
    shown: ShownClip, seen: ChannelAttention, channels: Sequence[int], out: Path
) -> None:
    """Writes the data of the figure as .npz.

    attention (T, C) and compared (T,) of all channels; channels (n,) with their inputs and
    outputs (n, T, H, W); frames (T, H, W, 3) of the clip and frame_indices.
    """
    with whole_file(out) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            attention=seen.attention,
            compared=seen.compared,
            channels=np.array(channels),
            inputs=seen.inputs[:, list(channels)].swapaxes(0, 1),
            outputs=seen.outputs[:, list(channels)].swapaxes(0, 1),
            frames=shown.frames[:: seen.frame_stride],
            frame_indices=np.array(shown.frame_indices[:: seen.frame_stride]),
        )


def alignment_summary(pairs: Sequence[AlignedPair]) -> list[dict[str, Any]]:
    """Summarizes each position of a pair: clip, and sharpness and distance of the similarity."""
    return [
        {
            "path": str(shown.path),
            "pair": one.pair,
            "frame_indices": [shown.frame_indices[t] for t in one.frames],
            "query": list(query),
            "most_similar": list(found),
            "similarity": round(float(similarity.max()), 6),
            "uniform": round(1 / similarity.size, 6),
        }
        for shown, one in pairs
        for query, found, similarity in zip(
            one.queries, one.most_similar, one.similarity, strict=True
        )
    ]


def draw_alignment(pairs: Sequence[AlignedPair], *, network: str, out: Path | None = None) -> bytes:
    """Draws two rows per pair of frames, as in TSI's figure 3 (all pairs are of the same block).

    First row: both frames, the similarity matrix, the features before and after alignment (mean
    absolute value over the channels), and frame t+1, darkened by the attention's output. Second
    row: the similarity of each position, on frame t+1. Each map has its own scale, from 0 to the
    value above it, since alignment changes the range; that of similarities is a square root.

    Raises:
        OptionError: there are more positions than cells in a row.
    """
    most = max(len(one.queries) for _, one in pairs)
    if most > len(QUERY_COLORS):
        raise OptionError(f"The figure shows up to {len(QUERY_COLORS)} positions, got {most}.")
    title = (
        f"{network}, saliency alignment of {pairs[0][1].block}\n"
        "boxes: positions of frame t and, in the same color, the most similar ones of frame t+1;\n"
        "below them the similarity of each position to those of frame t+1 (as a square root)"
    )
    names = []
    for name in clip_titles([shown for shown, _ in pairs]):
        names += ["\n".join(shortened(line, LETTERS) for line in name.split("\n")), "similarity"]
    figure, strips = strip_rows(names, len(QUERY_COLORS), title)
    for (shown, one), top, bottom in zip(pairs, strips[::2], strips[1::2], strict=True):
        image = _aligned_pair(shown, one, top)
        _similarities(shown.frames[one.frames[1]], one, bottom)
    color_bar(figure, image, strips, "fraction of the map's maximum")
    return save_png(figure, out)


def _aligned_pair(shown: ShownClip, one: Alignment, strip: Strip) -> Any:
    for cell, t in enumerate(one.frames):
        strip.show(cell, shown.frames[t], f"frame t{'+1' * cell}, {shown.when(t)}")
    for color, query, found in zip(QUERY_COLORS, one.queries, one.most_similar, strict=False):
        strip.mark(0, query, one.gain.shape, color)
        strip.mark(1, found, one.gain.shape, color)
    maps = {
        "matrix": np.sqrt(one.matrix),
        "features": np.abs(one.features).mean(0),
        "aligned": np.abs(one.enhanced).mean(0),
    }
    for cell, (name, values) in enumerate(maps.items(), start=2):
        top = float(values.max())
        text = f"{name}, max {top**2 if name == 'matrix' else top:.2g}"
        image = strip.show(cell, values / (top or 1), text, cmap=MAPS, vmin=0, vmax=1)
    frame = shown.frames[one.frames[1]]
    gain_11HW = torch.from_numpy(one.gain / (one.gain.max() or 1))[None, None]
    large = F.interpolate(gain_11HW, frame.shape[:2], mode="bilinear")[0, 0, :, :, None].numpy()
    strip.show(5, (frame * large).round().astype(np.uint8), "aligned frame")
    return image


def _similarities(frame: NDArray[np.uint8], one: Alignment, strip: Strip) -> None:
    """Draws the similarity of each position on frame t+1, which is gray."""
    gray = frame.mean(2)
    rows = zip(QUERY_COLORS, one.queries, one.similarity, strict=False)
    for cell, (color, query, values) in enumerate(rows):
        top = float(values.max())
        strip.show(cell, gray, f"max {top:.2g}", cmap="gray", vmin=0, vmax=255)
        strength = np.sqrt(values / (top or 1))
        strip.show(cell, strength, cmap=MAPS, vmin=0, vmax=1, alpha=0.1 + 0.8 * strength)
        strip.mark(cell, query, values.shape, color)


def write_alignment(pairs: Sequence[AlignedPair], out: Path) -> None:
    """Writes the data of the figure as .npz.

    paths (P,), pairs (P,), queries (P, Q, 2) as row and column, frame_indices (P, 2), frames
    (P, 2, H, W, 3), and of the block similarity (P, Q, h, w), matrix (P, G*G, G*G), gain
    (P, h, w), features and enhanced (P, D, h, w).
    """
    with whole_file(out) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            paths=np.array([str(shown.path) for shown, _ in pairs]),
            pairs=np.array([one.pair for _, one in pairs]),
            queries=np.array([one.queries for _, one in pairs]),
            frame_indices=np.array(
                [[shown.frame_indices[t] for t in one.frames] for shown, one in pairs]
            ),
            frames=np.stack([shown.frames[list(one.frames)] for shown, one in pairs]),
            similarity=np.stack([one.similarity for _, one in pairs]),
            matrix=np.stack([one.matrix for _, one in pairs]),
            gain=np.stack([one.gain for _, one in pairs]),
            features=np.stack([one.features for _, one in pairs]),
            enhanced=np.stack([one.enhanced for _, one in pairs]),
        )


def cam_summary(cam: CamMaps, labels: Sequence[str]) -> dict[str, Any]:
    """Summarizes the class, its probability, and the fraction of the evidence per frame."""
    label = cam.classes[0]
    sums_R = cam.maps[0].sum((1, 2))
    total = float(sums_R.sum())
    return {
        "layer": cam.layer,
        "label": label,
        "name": labels[label],
        "prob": round(_prob(cam), 6),
        "frame_shares": [round(float(s) / total, 6) if total else 0.0 for s in sums_R],
    }


def draw_cam(
    shown: ShownClip, cam: CamMaps, labels: Sequence[str], *, network: str, out: Path | None = None
) -> bytes:
    """Draws the frames and, below them, the frames with an overlay of the Grad-CAM of one clip.

    The clip has one scale: 1 is the maximum over its frames. `labels` are the K class names.
    """
    maps_Rhw = cam.maps[0] / max(float(cam.maps[0].max()), np.finfo(np.float32).tiny)
    frames = len(shown.frames)
    times, every = _shown_times(frames)
    name = labels[cam.classes[0]]
    title = f"{network}, Grad-CAM at {cam.layer} for {name!r} (probability {_prob(cam):.2f}){every}"
    figure, strips = strip_rows(["clip", "Grad-CAM"], len(times), title)
    plain, laid_over = strips
    smooth = {"vmin": 0, "vmax": 1, "interpolation": "bilinear", "cmap": HEAT, "alpha": 0.5}
    for cell, t in enumerate(times):
        plain.show(cell, shown.frames[t], shown.when(t))
        laid_over.show(cell, shown.frames[t])
        map_hw = maps_Rhw[t * len(maps_Rhw) // frames]
        image = laid_over.show(cell, map_hw, f"max {map_hw.max():.2f}", **smooth)
    color_bar(figure, image, strips, "fraction of the clip's maximum")
    return save_png(figure, out)


def write_cam(shown: ShownClip, cam: CamMaps, out: Path) -> None:
    """Writes the data of the figure as .npz.

    unscaled maps (R, h, w), label, scores (K,), frames (T, H, W, 3) and frame_indices (T,).
    """
    with whole_file(out) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            maps=cam.maps[0],
            label=np.array(cam.classes[0]),
            scores=cam.scores[0],
            layer=np.array(cam.layer),
            frames=shown.frames,
            frame_indices=np.array(shown.frame_indices),
        )


def _shown_times(frames: int) -> tuple[range, str]:
    """Frames that fit in a row, and a note for the title if these are not all."""
    step = -(-frames // CELLS)
    return range(0, frames, step), f"; 1 of {step} frames" if step > 1 else ""


def _prob(cam: CamMaps) -> float:
    odds_K = np.exp(cam.scores[0] - cam.scores[0].max())
    return float(odds_K[cam.classes[0]] / odds_K.sum())
