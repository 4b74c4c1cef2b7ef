"""Grad-CAM over the frames of a clip. Letters: T frames, R frames at the layer, H, W, K classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinema.models.insight import CamMaps
from kinema.report.figures import save_png
from kinema.report.panels import HEAT, colour_bar, strip_rows
from kinema.report.shown_clip import ShownClip


def cam_summary(cam: CamMaps, labels: Sequence[str]) -> dict[str, Any]:
    """The class, its probability, and the share of the evidence in every frame."""
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
    shown: ShownClip,
    cam: CamMaps,
    labels: Sequence[str],
    *,
    network: str,
    out: Path | None = None,
) -> bytes:
    """The frames, and below them the same with Grad-CAM laid over.

    One scale for the clip: 1 is the largest value in any of its frames.

    Args:
        shown: The clip.
        cam: Its maps, of one clip.
        labels: The K class names.
        network: Stands in the title.
        out: PNG file to write, too.

    Returns:
        The PNG.
    """
    maps_Rhw = cam.maps[0] / max(float(cam.maps[0].max()), np.finfo(np.float32).tiny)
    frames = len(shown.frames)
    stride = frames // len(maps_Rhw)
    name = labels[cam.classes[0]]
    title = f"{network}, Grad-CAM at {cam.layer} for {name!r} (probability {_prob(cam):.2f})"
    figure, strips = strip_rows(["clip", "Grad-CAM"], frames, title)
    plain, laid_over = strips
    smooth = {"vmin": 0, "vmax": 1, "interpolation": "bilinear", "cmap": HEAT, "alpha": 0.5}
    for t in range(frames):
        plain.show(t, shown.frames[t])
        plain.say(t, shown.when(t))
        laid_over.show(t, shown.frames[t])
        image = laid_over.show(t, maps_Rhw[t // stride], **smooth)
        laid_over.say(t, f"max {maps_Rhw[t // stride].max():.2f}")
    colour_bar(figure, image, strips, "share of the clip's largest value")
    return save_png(figure, out)


def write_cam(shown: ShownClip, cam: CamMaps, out: Path) -> None:
    """The numbers behind the figure as .npz.

    maps (R, h, w) as they are, label, scores (K,), frames (T, H, W, 3) and frame_indices (T,).
    """
    np.savez_compressed(
        out,
        maps=cam.maps[0],
        label=np.array(cam.classes[0]),
        scores=cam.scores[0],
        layer=np.array(cam.layer),
        frames=shown.frames,
        frame_indices=np.array(shown.frame_indices),
    )


def _prob(cam: CamMaps) -> float:
    odds_K = np.exp(cam.scores[0] - cam.scores[0].max())
    return float(odds_K[cam.classes[0]] / odds_K.sum())
