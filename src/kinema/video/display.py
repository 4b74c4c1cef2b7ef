"""Rotation and mirroring of decoded pictures, which containers store as metadata.

Phones record with the sensor on its side, and apps mirror their front camera.
"""

import numpy as np
from av import VideoFrame
from av.sidedata.sidedata import SideData
from numpy.typing import NDArray


def display_of(frame: VideoFrame) -> tuple[int, bool]:
    """Reads the rotation of a frame and whether to mirror it first.

    Returns:
        Quarter turns (0 to 3, counterclockwise), and True if it is mirrored before the rotation.
    """
    quarter_turns = round(frame.rotation / 90) % 4
    stored = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(stored, SideData):
        return quarter_turns, False
    a, b, _, c, d = np.frombuffer(bytes(stored), np.int32)[:5].tolist()
    # The display matrix (ISO/IEC 14496-12, 6.2.2) has a negative determinant if it mirrors. The
    # angle that FFmpeg reads from it is then half a turn off.
    if a * d - b * c >= 0:
        return quarter_turns, False
    return (quarter_turns + 2) % 4, True


def upright(rgb: NDArray[np.uint8], quarter_turns: int, *, mirrored: bool) -> NDArray[np.uint8]:
    """Mirrors and rotates a picture (H, W, 3) for display; a view of the same memory."""
    if mirrored:
        rgb = rgb[:, ::-1]
    return np.rot90(rgb, quarter_turns) if quarter_turns else rgb
