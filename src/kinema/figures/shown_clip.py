"""Clip of a video, both as network input and as pictures to show.

Letters: T frames, H, W.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.data.sampling import sampling_of
from kinema.data.transforms import ViewTransform, normalize
from kinema.report.plots import shortened
from kinema.values import Preprocessing, Views
from kinema.video.decode import open_source


@dataclass(frozen=True)
class ShownClip:
    """Middle clip and center crop of a video."""

    path: Path
    frames: NDArray[np.uint8]  # (T, H, W, 3), RGB
    frame_indices: tuple[int, ...]  # in the video
    rate_hz: float  # frames per second of the video; 0 if unknown
    clip: torch.Tensor  # network input (1, T, 3, H, W), float, normalized

    @property
    def name(self) -> str:
        """Name of the file without suffix."""
        return self.path.stem

    @property
    def motion(self) -> float:
        """Mean absolute difference of consecutive frames in gray levels (0 to 255).

        The mean is over all pixels and colors of the crop; 0 for one frame.
        """
        steps = np.abs(np.diff(self.frames.astype(np.int16), axis=0))
        return float(steps.mean()) if steps.size else 0.0

    def when(self, frame: int) -> str:
        """Time of frame `frame` of the clip in the video, such as "1.3 s"."""
        index = self.frame_indices[frame]
        return f"{index / self.rate_hz:.1f} s" if self.rate_hz > 0 else f"frame {index}"


def beside_by_folder(shown: Sequence[ShownClip]) -> list[ShownClip]:
    """Orders clips so that those of a folder, such as a class, stand beside each other."""
    folders = [one.path.parent for one in shown]
    return sorted(shown, key=lambda one: folders.index(one.path.parent))


def clip_titles(shown: Sequence[ShownClip]) -> list[str]:
    """Names of clips, below the name of their folder if the clips are of several folders."""
    if len({one.path.parent for one in shown}) < 2:
        return [shortened(one.name) for one in shown]
    return [f"{shortened(one.path.parent.name)}\n{shortened(one.name)}" for one in shown]


def read_shown_clip(path: Path, how: Preprocessing) -> ShownClip:
    """Reads the clip of a video that a test with one clip and one crop uses.

    Raises:
        UnreadableVideoError: the video cannot be read.
    """
    with open_source(path) as source:
        (indices,) = sampling_of(how).test(source.info.frames, 1)
        frames_1TCHW = ViewTransform(how, Views())(source.read(indices))
        centers = slice(how.snippet // 2, None, how.snippet)  # the T frames that maps belong to
        rate_hz = source.info.rate_hz
    return ShownClip(
        path=path,
        frames=frames_1TCHW[0, centers].permute(0, 2, 3, 1).numpy(),
        frame_indices=tuple(indices[centers].tolist()),
        rate_hz=rate_hz,
        clip=normalize(frames_1TCHW, how.mean, how.std),
    )
