"""Channel attention of ME, MEM, SME and SE on a clip, with input and output features.

Letters: T frames, N = B*T, C channels, H, W.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.errors import OptionError
from kinema.figures.capture import ModuleKind, find_module, run_watched
from kinema.models.network import VideoNetwork
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
    source = source or net.name
    chosen = find_module(net, ATTENTION, block, source=source)
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
