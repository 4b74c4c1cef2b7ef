"""Thumbnails of the frames that the network saw, for the web page.

Letters: X crops, T frames, H, W.
"""

import base64
import io

import torch
from PIL import Image

from kinema.serve.schema import SeenFrame
from kinema.serve.service import Clips

_SIDE_PX = 160
_QUALITY = 80
# Index of the center crop among 1, 3 and 10 crops, see `ViewTransform`.
_MIDDLE = {1: 0, 3: 1, 10: 4}


def seen_frames(clips: Clips) -> list[SeenFrame]:
    """Makes a thumbnail of the center crop of every frame."""
    return [
        SeenFrame(clip=clip, frame=int(number), time_s=float(time_s), image=_address(frame_CHW))
        for clip, (crops_XTCHW, numbers_T, times_T) in enumerate(clips)
        for frame_CHW, number, time_s in zip(
            crops_XTCHW[_MIDDLE[len(crops_XTCHW)]], numbers_T, times_T, strict=True
        )
    ]


def _address(frame_CHW: torch.Tensor) -> str:
    picture = Image.fromarray(frame_CHW.permute(1, 2, 0).contiguous().numpy())
    picture.thumbnail((_SIDE_PX, _SIDE_PX))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
