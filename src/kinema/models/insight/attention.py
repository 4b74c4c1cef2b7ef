"""The channel attention of ME, MEM, SME and SE on a clip, with the features around it.

Letters: T frames, N = B*T, C channels, H, W.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.errors import OptionError
from kinema.models.insight.capture import (
    Kind,
    check_one_clip,
    find_modules,
    in_block,
    run_watched,
)
from kinema.models.network import VideoNetwork
from kinema.temporal import ME, SME
from kinema.temporal.se import ChannelGate

ATTENTION = Kind(
    "channel attention", classes=(ChannelGate, SME), holders=("me", "mem", "se", "sme", "tsi")
)


@dataclass(frozen=True)
class ChannelAttention:
    """What one module did to a clip.

    Attributes:
        block: Such as "res2.0".
        module: Its class: "ME", "MEM", "SME" or "SE".
        residual: Whether the output is x + A x (ME, SME); otherwise it is A x (MEM, SE).
        frame_stride: Frames of the clip for each frame here.
        compared: Whether a frame had a neighbour to be compared with, (T,); all True for SE.
        attention: A (T, C).
        inputs: (T, C, H, W).
        outputs: (T, C, H, W).
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
        """Mean attention of every channel over the frames that had a neighbour, (C,)."""
        means: NDArray[np.float32] = self.attention[self.compared].mean(0)
        return means


def channel_attention(
    net: VideoNetwork, clip: torch.Tensor, *, block: str | None = None, source: str | None = None
) -> ChannelAttention:
    """Runs the network on a clip and keeps what the module of one block did.

    Of ME and SME, A is the part that is added: gate_scale (sigmoid - 1/2) and sigmoid. Of MEM and
    SE it is the factor; the frame that MEM only copies has A = 1.

    Args:
        net: In eval mode.
        clip: (1, T, 3, H, W) float, normalised.
        block: Such as "res2.0"; the first one that has such a module by default.
        source: Where the network comes from, for messages.

    Raises:
        SiteError: the network has no such module.
        UnknownNameError: this block has none.
        OptionError: it is an SME without channel attention.
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
            attention_NC = module.factors(passed.given) - float(isinstance(module, ME))
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
    """Which frames have the neighbour that their attention comes from."""
    has_T = np.ones(module.frames, bool)
    looks = (module.look_back or 0) + (module.look_ahead or 0)
    if looks and module.frames > 1:
        has_T[0 if module.causal else -1] = False
    return has_T
