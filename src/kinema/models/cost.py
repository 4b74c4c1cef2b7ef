"""Parameters and multiply-accumulates of a network and of its temporal modules."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kinema.temporal import TemporalModule
from kinema.types import Cost, SiteCost


def count_cost(net: nn.Module, *, frames: int, size_px: int) -> Cost:
    """Counts one clip of `frames` frames of `size_px` x `size_px` pixels.

    A MAC is one multiplication with its addition: the "FLOPs" of the papers, half of PyTorch's
    flop count. Counted are convolutions, linear layers and matrix products; norms, activations,
    pooling and shifts are not. Nothing is computed: the network runs on the meta device.
    """
    probe = copy.deepcopy(net).to("meta").eval()
    clips = torch.empty(1, frames, 3, size_px, size_px, device="meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        probe(clips)
    flops = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    root = type(probe).__name__
    sites = tuple(
        SiteCost(
            site=name.removeprefix("backbone."),
            module=type(module).__name__,
            params=_params(module),
            macs=flops.get(f"{root}.{name}", 0) // 2,
        )
        for name, module in net.named_modules()
        if isinstance(module, TemporalModule)
    )
    return Cost(
        params=_params(net),
        macs=flops.get("Global", 0) // 2,
        temporal_params=sum(site.params for site in sites),
        temporal_macs=sum(site.macs for site in sites),
        frames=frames,
        size_px=size_px,
        sites=sites,
    )


def _params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
