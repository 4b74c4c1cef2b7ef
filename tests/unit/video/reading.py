"""Kinds of videos, and their reference frames from decoding in order."""

import av
import numpy as np

from kinema.video.decode import VideoFile

OPEN_GOP = {
    "libx264": {"x264-params": "open-gop=1:bframes=3:keyint=12"},
    "libx265": {"x265-params": "open-gop=1:bframes=4:keyint=12:min-keyint=12:log-level=none"},
}
UNEVEN = [n * n // 4 + n for n in range(30)]
KINDS = {
    "h264_gop12.mp4": {},
    "h264_gop250.mp4": {"gop": 250},
    "h264_intra.mp4": {"gop": 1, "bframes": 0},
    "h264.mkv": {},
    "h264.mov": {"gop": 8},
    "h264.ts": {},
    "mpeg4.avi": {"codec": "mpeg4", "bframes": 0},
    "mpeg4_b.avi": {"codec": "mpeg4", "bframes": 2},
    "mpeg2.mpg": {"codec": "mpeg2video"},
    "vp9.webm": {"codec": "libvpx-vp9", "bframes": 0},
    "open_gop.mp4": {"bframes": 3, "codec_options": OPEN_GOP["libx264"]},
    "open_gop_h265.mp4": {"codec": "libx265", "codec_options": OPEN_GOP["libx265"]},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "variable_rate.mp4": {"pts": UNEVEN},
    "variable_rate.avi": {"codec": "mpeg4", "bframes": 0, "pts": UNEVEN},
    "picture.gif": {"codec": "gif", "pix_fmt": "gray", "bframes": 0},
}


def in_order(path, wanted: set[int] | None = None, *, video: int = 0) -> list[np.ndarray | None]:
    """Reference frames (None where not wanted): frame numbers count decoded frames in order."""
    with av.open(str(path)) as container:
        return [
            np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
            if wanted is None or number in wanted
            else None
            for number, frame in enumerate(container.decode(video=video))
        ]


def pictures(source: VideoFile, indices) -> list[np.ndarray]:
    return list(source.read(indices).permute(0, 2, 3, 1).numpy())
