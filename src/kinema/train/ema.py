"""A moving average of the weights."""

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kinema.models.network import VideoNetwork

Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


def ema_decay(decay: float, updates: int) -> float:
    """The decay after so many updates; it starts low so that the first weights are forgotten."""
    return min(decay, (1 + updates) / (10 + updates))


def build_ema(net: VideoNetwork, decay: float) -> AveragedModel:
    """An average over the weights and the BatchNorm statistics of `net`.

    `update_parameters(net)` takes in the present weights; `module` is the averaged network.
    """

    def blend(average: Tensors, current: Tensors, updates: torch.Tensor | int) -> None:
        rate = ema_decay(decay, int(updates))
        get_ema_multi_avg_fn(rate)(average, current, updates)  # type: ignore[no-untyped-call]  # as torch has it

    return AveragedModel(net, multi_avg_fn=blend, use_buffers=True)
