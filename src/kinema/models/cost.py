"""Parameters and multiply-accumulates of a network and of its temporal modules."""

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kinema.models.snippets import SnippetResNet
from kinema.models.temporal_pool import TemporalMaxPool
from kinema.temporal import TemporalModule
from kinema.values import Cost, Reach, SiteCost


def outermost(net: nn.Module) -> list[tuple[str, TemporalModule]]:
    """Temporal modules that are not parts of another one, with their names."""
    found: list[tuple[str, TemporalModule]] = []
    for name, module in net.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer, _ in found[-1:])
        if isinstance(module, TemporalModule) and not inside:
            found.append((name, module))
    return found


def count_reach(modules: Sequence[tuple[TemporalModule | TemporalMaxPool, int]]) -> Reach:
    """Sums the temporal receptive fields of modules that are given with their frame strides."""
    back = [None if m.look_back is None else m.look_back * stride for m, stride in modules]
    ahead = [None if m.look_ahead is None else m.look_ahead * stride for m, stride in modules]
    return Reach(
        look_back=None if None in back else sum(b for b in back if b is not None),
        look_ahead=None if None in ahead else sum(a for a in ahead if a is not None),
        frames_in_weights=any(module.frames_in_weights for module, _ in modules),
    )


def count_cost(
    net: nn.Module, *, frames: int, snippet: int, size_px: int, places: Mapping[str, str]
) -> Cost:
    """Counts parameters and MACs for a clip of `frames` frames of `size_px` x `size_px` pixels.

    With a `snippet` above 1, that many pictures are in place of each frame.

    A MAC is a multiplication with its addition: the "FLOPs" of the papers, half of PyTorch's flop
    count. Counts convolutions, linear layers, matrix products (including attention) and the
    dynamic kernels of TAM and TIN, but not norms, activations, gates, pooling and shifts. The
    network runs on the meta device, without computation.
    """
    probe = copy.deepcopy(net).to("meta").eval()
    clips = torch.empty(1, frames * snippet, 3, size_px, size_px, device="meta")
    dynamic: dict[str, int] = {}

    def count(name: str, module: TemporalModule, inputs: tuple[torch.Tensor, ...]) -> None:
        dynamic[name] = module.uncounted_macs(inputs[0])

    for name, module in outermost(probe):
        module.register_forward_pre_hook(functools.partial(count, name))
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        probe(clips)
    flops = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    root = type(probe).__name__
    sites = tuple(
        SiteCost(
            site=name.removeprefix("backbone."),
            place=places.get(name, ""),
            module=type(module).__name__,
            params=_params(module),
            macs=flops.get(f"{root}.{name}", 0) // 2 + dynamic[name],
        )
        for name, module in outermost(net)
    )
    sites += tuple(
        SiteCost(
            site=name.removeprefix("backbone."),
            place="",
            module=SnippetResNet.__name__,
            params=_params(module),
            macs=flops.get(f"{root}.{name}", 0) // 2,
        )
        for name, module in _branches(net)
    )
    return Cost(
        params=_params(net),
        macs=flops.get("Global", 0) // 2 + sum(dynamic.values()),
        temporal_params=sum(site.params for site in sites),
        temporal_macs=sum(site.macs for site in sites),
        frames=frames,
        size_px=size_px,
        sites=sites,
    )


def _branches(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Parts of a short-term branch, with their names."""
    for name, module in net.named_modules():
        if isinstance(module, SnippetResNet):
            for part in ("difference_stem", "difference_layer1"):
                yield f"{name}.{part}", module.get_submodule(part)


def _params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
