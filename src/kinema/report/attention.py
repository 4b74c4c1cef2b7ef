"""Features in front of and behind ME, MEM, SME or SE, with the attention of their channels.

The figure of TEA's supplement (section 6, figure 1). Letters: T frames, C channels, H, W.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinema.errors import OptionError
from kinema.models.insight import ChannelAttention
from kinema.report.figures import save_png
from kinema.report.panels import MAPS, colour_bar, strip_rows
from kinema.report.shown_clip import ShownClip

# Channels of the highest and of the lowest attention that are shown by default.
EACH_END = 2


def choose_channels(seen: ChannelAttention, wanted: Sequence[int] | None = None) -> list[int]:
    """The wanted channels, or those of the highest and lowest mean attention, highest first.

    Raises:
        OptionError: a channel does not exist.
    """
    channels = seen.attention.shape[1]
    if wanted is None:
        order = np.argsort(-seen.means, kind="stable").tolist()
        return list(dict.fromkeys([*order[:EACH_END], *order[-EACH_END:]]))
    for channel in wanted:
        if not 0 <= channel < channels:
            raise OptionError(
                f"{seen.module} of {seen.block} has channels 0 to {channels - 1}, "
                f"so there is no channel {channel}."
            )
    return list(dict.fromkeys(wanted))


def attention_summary(seen: ChannelAttention, channels: Sequence[int]) -> list[dict[str, Any]]:
    """Of each channel its mean attention and that of every frame."""
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
    """The frames, and below them each channel's input and output maps, frame by frame.

    Args:
        shown: The clip.
        seen: What the module did to it.
        channels: Which ones to draw.
        network: Stands in the title.
        out: PNG file to write, too.

    Returns:
        The PNG.
    """
    frames = len(seen.attention)
    sign = "+" if seen.residual else ""  # what is added may be negative, a factor is not
    form = "x + A x" if seen.residual else "A x"
    lone = "" if seen.compared.all() else "; * this frame has no neighbour to be compared with"
    title = f"{network}, {seen.module} of {seen.block}: output = {form}{lone}"
    names = ["clip"]
    for channel in channels:
        names += [f"channel {channel}\ninput x", f"mean A {seen.means[channel]:{sign}.3f}\noutput"]
    figure, (top, *rows) = strip_rows(names, frames, title)
    for t in range(frames):
        top.show(t, shown.frames[t * seen.frame_stride])
        top.say(t, shown.when(t * seen.frame_stride))
    for channel, above, below in zip(channels, rows[::2], rows[1::2], strict=True):
        inputs, outputs = seen.inputs[:, channel], seen.outputs[:, channel]
        ends = {"vmin": np.min([inputs, outputs]), "vmax": np.max([inputs, outputs])}
        for t in range(frames):
            above.show(t, inputs[t], cmap=MAPS, **ends)
            image = below.show(t, outputs[t], cmap=MAPS, **ends)
            star = "" if seen.compared[t] else "*"
            below.say(t, f"A = {seen.attention[t, channel]:{sign}.3f}{star}")
        colour_bar(figure, image, [above, below])
    return save_png(figure, out)


def write_attention(
    shown: ShownClip, seen: ChannelAttention, channels: Sequence[int], out: Path
) -> None:
    """The numbers behind the figure as .npz.

    attention (T, C) and compared (T,) of all channels; channels (n,) with their inputs and
    outputs (n, T, H, W); frames (T, H, W, 3) of the clip and frame_indices.
    """
    np.savez_compressed(
        out,
        attention=seen.attention,
        compared=seen.compared,
        channels=np.array(channels),
        inputs=seen.inputs[:, list(channels)].swapaxes(0, 1),
        outputs=seen.outputs[:, list(channels)].swapaxes(0, 1),
        frames=shown.frames[:: seen.frame_stride],
        frame_indices=np.array(shown.frame_indices[:: seen.frame_stride]),
    )
