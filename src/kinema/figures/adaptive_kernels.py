"""Temporal kernels: TAM's kernels for a clip, and kernels shared by all clips.

Letters: B clips, T frames, C channels, K taps.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.errors import OptionError
from kinema.figures.capture import ModuleKind, find_modules, no_such_block, run_watched
from kinema.models.network import VideoNetwork
from kinema.temporal import GST, GTE, TAM, TIM, Inflated, TemporalConv
from kinema.temporal.kernels.gate import spatial_mean
from kinema.temporal.kernels.layout import time_padding

ADAPTIVE = ModuleKind("temporal adaptive module", classes=(TAM,), holders=("tam",))
SHARED = ModuleKind(
    "temporal convolution",
    classes=(Inflated, TIM, TemporalConv, GST, GTE),
    holders=("i3d", "c3d", "tim", "tconv", "mta", "cti", "tsi", "stm", "action", "gst", "gte"),
)


@dataclass(frozen=True)
class AdaptiveKernels:
    """Kernels and gates that the TAM of a block generates for a clip.

    Attributes:
        block: Such as "res4.5".
        offsets: Offsets of the K taps in frames; -1 is the previous frame.
        kernels: Theta (C, T or 1, K) of the global branch; each sums to 1.
        gates: V (C, T) of the local branch (or its substitute); None without one.
    """

    block: str
    offsets: tuple[int, ...]
    kernels: NDArray[np.float32]
    gates: NDArray[np.float32] | None


def adaptive_kernels(
    net: VideoNetwork, clip: torch.Tensor, *, source: str | None = None
) -> list[AdaptiveKernels]:
    """Runs the network on a clip and returns kernels and gates of all TAMs.

    Args:
        net: In eval mode.
        clip: (1, T, 3, H, W) float, normalized.
        source: Where the network comes from, for messages.

    Raises:
        SiteError: the network has no TAM.
        OptionError: its TAMs have no global branch.
    """
    source = source or net.name
    found = find_modules(net, ADAPTIVE, source=source)
    made = []
    passed = run_watched(net, clip, [one.module for one in found])
    for one, features in zip(found, passed, strict=True):
        tam = one.module
        assert isinstance(tam, TAM)
        with torch.no_grad():
            # As TAM.forward does.
            pooled_TC = spatial_mean(features.given).to(features.given.dtype)
            gate_BCT, kernels_BCTK = tam.weights(pooled_TC.T.unsqueeze(0))
        if kernels_BCTK is None:
            raise OptionError(
                f"{source} was built with branches='local': its TAMs make no kernels."
            )
        made.append(
            AdaptiveKernels(
                block=one.block,
                offsets=_offsets(tam.kernel, causal=tam.causal),
                kernels=kernels_BCTK[0].float().cpu().numpy(),
                gates=None if gate_BCT is None else gate_BCT[0].float().cpu().numpy(),
            )
        )
    return made


def shared_kernels(
    net: VideoNetwork, block: str, *, source: str | None = None
) -> dict[int, NDArray[np.float32]]:
    """Weights of the temporal convolutions of a block, by offset in frames.

    Args:
        net: A network with temporal convolutions, such as an I3D.
        block: Such as "res4.5".
        source: Where the network comes from, for messages.

    Returns:
        Weights of all channels and positions for each offset (-1 is the previous frame).

    Raises:
        SiteError: the network has no temporal convolution.
        UnknownNameError: this block has none.
    """
    source = source or net.name
    found = find_modules(net, SHARED, source=source)
    here = [one for one in found if one.block.split()[0] == block]
    if not here:
        blocks = [one.block.split()[0] for one in found]
        raise no_such_block(blocks, block, SHARED, source=source)
    weights: dict[int, list[NDArray[np.float32]]] = {}
    for one in here:
        is_gst, is_gte = isinstance(one.module, GST), isinstance(one.module, GTE)
        parameter = "temporal" if is_gst else "lts" if is_gte else "weight"
        weight = getattr(one.module, parameter).detach().float().cpu()
        offsets = _offsets(weight.shape[2], causal=bool(one.module.causal))
        for tap, offset in enumerate(offsets):  # time is the third axis of all of them
            weights.setdefault(offset, []).append(weight[:, :, tap].flatten().numpy())
    return {offset: np.concatenate(parts) for offset, parts in sorted(weights.items())}


def _offsets(taps: int, *, causal: bool) -> tuple[int, ...]:
    before, _ = time_padding(taps, causal=causal)
    return tuple(range(-before, taps - before))
