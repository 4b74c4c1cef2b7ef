"""Channel attention of ME, MEM, SME and SE on a clip, with input and output features.

Letters: T frames, N = B*T, C channels, H, W.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.errors import OptionError
from kinema.figures.capture import (
    ModuleKind,
    check_one_clip,
    find_modules,
    in_block,
    run_watched,
)
from kinema.figures.panels import MAPS, color_bar, strip_rows
from kinema.figures.shown_clip import ShownClip
from kinema.models.network import VideoNetwork
from kinema.report.plots import save_png
from kinema.temporal import ME, SME
from kinema.temporal.se import ChannelGate

ATTENTION = ModuleKind(
    "channel attention", classes=(ChannelGate, SME), holders=("me", "mem", "se", "sme", "tsi")
)


@dataclass(frozen=True)
class ChannelAttention:
    """Channel attention of a module on a clip.

    Attributes:
        block: Block, such as "res2.0".
        module: Class of the module: "ME", "MEM", "SME" or "SE".
        residual: True if the output is x + A x (ME, SME), False if it is A x (MEM, SE).
        frame_stride: Frames of the clip per frame of the module.
        compared: (T,), True for frames that were compared with a neighbor; all True for SE.
        attention: A, (T, C).
        inputs: Input features (T, C, H, W).
        outputs: Output features (T, C, H, W).
    """

    block: str
    module: str
    residual: bool
    frame_stride: int
    compared: NDArray[np.bool_]
    attention: NDArray[np.float32]
    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]

    @property
    def means(self) -> NDArray[np.float32]:
        """Mean attention per channel over the compared frames, (C,)."""
        means: NDArray[np.float32] = self.attention[self.compared].mean(0)
        return means


def channel_attention(
    net: VideoNetwork, clip: torch.Tensor, *, block: str | None = None, source: str | None = None
) -> ChannelAttention:
    """Runs the network on a clip and captures the channel attention of a block.

    For ME and SME, A is the added part: gate_scale (sigmoid - 1/2) and sigmoid. For MEM and SE it
    is the factor; A = 1 for the frame that MEM copies.

    Args:
        net: The network, in eval mode.
        clip: (1, T, 3, H, W) float, normalized.
        block: Such as "res2.0"; by default the first one with such a module.
        source: Source of the network, for messages.

    Raises:
        SiteError: the network has no such module.
        UnknownNameError: the block has none.
        OptionError: the module is an SME without channel attention.
    """
    check_one_clip(net, clip)
    source = source or net.name
    found = find_modules(net, ATTENTION, source=source)
    chosen = in_block(found, block or found[0].block, ATTENTION, source=source)
    module = chosen.module
    if isinstance(module, SME):
        if not module.channel_attention:
            raise OptionError(
                f"{source} was built with channel_attention=False: its SME weighs no channels."
            )
        passed, gate = run_watched(net, clip, [module, module.expand])
        attention_NC = torch.sigmoid(gate.returned.flatten(1))
    else:
        assert isinstance(module, ChannelGate)
        (passed,) = run_watched(net, clip, [module])
        with torch.no_grad():
            attention_NC = module.gate_factors(passed.given) - float(isinstance(module, ME))
    return ChannelAttention(
        block=chosen.block,
        module=type(module).__name__,
        residual=isinstance(module, ME | SME),
        frame_stride=chosen.frame_stride,
        compared=_compared(module),
        attention=attention_NC.float().cpu().numpy(),
        inputs=passed.given.float().cpu().numpy(),
        outputs=passed.returned.float().cpu().numpy(),
    )


def _compared(module: ChannelGate | SME) -> NDArray[np.bool_]:
    """Frames that have the neighbor on which their attention depends."""
    has_T = np.ones(module.frames, bool)
    looks = (module.look_back or 0) + (module.look_ahead or 0)
    if looks and module.frames > 1:
        has_T[0 if module.causal else -1] = False
    return has_T


# Channels of highest and lowest attention that are shown by default.
EACH_END = 2


def choose_channels(seen: ChannelAttention, wanted: Sequence[int] | None = None) -> list[int]:
    """Returns the given channels, or those of highest and lowest mean attention, highest first.

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
    """Draws the frames and, below them, the input and output maps of each channel.

    Args:
        shown: The clip.
        seen: Channel attention on the clip.
        channels: Channels to draw.
        network: Name of the network, for the title.
        out: Optional PNG file to write.

    Returns:
        PNG data.
    """
    frames = len(seen.attention)
    sign = "+" if seen.residual else ""  # an added part may be negative, a factor is not
    form = "x + A x" if seen.residual else "A x"
    lone = "" if seen.compared.all() else "; * frame without a neighbor to compare"
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
        color_bar(figure, image, [above, below])
    return save_png(figure, out)


def write_attention(
    shown: ShownClip, seen: ChannelAttention, channels: Sequence[int], out: Path
) -> None:
    """Writes the data of the figure as .npz.

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
