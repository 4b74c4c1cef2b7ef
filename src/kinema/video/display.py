"""How a decoded picture is to be shown: containers store turns and mirrors beside the pictures.

Phones film with the sensor lying on its side, and apps of front cameras mirror.
"""

import numpy as np
from av import VideoFrame
from av.sidedata.sidedata import SideData
from numpy.typing import NDArray


def display_of(frame: VideoFrame) -> tuple[int, bool]:
    """Quarter turns (0 to 3, counter-clockwise), and whether it is mirrored before them.

    The display matrix (ISO/IEC 14496-12, 6.2.2) has a negative determinant where it mirrors; the
    angle that FFmpeg reads from it is then half a turn off.
    """
    quarter_turns = round(frame.rotation / 90) % 4
    stored = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(stored, SideData):
        return quarter_turns, False
    a, b, _, c, d = np.frombuffer(bytes(stored), np.int32)[:5].tolist()
    if a * d - b * c >= 0:
        return quarter_turns, False
    return (quarter_turns + 2) % 4, True


def upright(rgb: NDArray[np.uint8], quarter_turns: int, *, mirrored: bool) -> NDArray[np.uint8]:
    """(H, W, 3) as it is to be shown; a view of the same memory."""
    if mirrored:
        rgb = rgb[:, ::-1]
    return np.rot90(rgb, quarter_turns) if quarter_turns else rgb
