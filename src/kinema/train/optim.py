"""Parameter groups, optimizers and learning-rate schedules.

Parameters are grouped by part of the network and by kind: weight, or norm weight, bias and scalar.
"""

import logging
import math
from bisect import bisect_right
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kinema.errors import OptionError
from kinema.models.network import NORMS, VideoNetwork
from kinema.models.weights import new_in_modules
from kinema.train.settings import (
    CosineSettings,
    MultistepSettings,
    OptimizerSettings,
    ScheduleSettings,
    SGDSettings,
)

_log = logging.getLogger(__name__)

_PARTS = ("body", "temporal", "classifier")


def effective_lr(settings: OptimizerSettings, *, batch_size: int) -> float:
    """Learning rate for this batch size (linear scaling; Goyal et al. 2017)."""
    if settings.scale_lr_for_batch is None:
        return settings.lr
    return settings.lr * batch_size / settings.scale_lr_for_batch


def parameter_groups(
    net: VideoNetwork, settings: OptimizerSettings, *, lr: float
) -> list[dict[str, Any]]:
    """Groups the trainable parameters, with learning rate and weight decay; at most six groups.

    The classifier is `net.head`. New weights of temporal modules form a part of their own only if
    their rate differs. A parameter of at most one dimension is a bias, a norm weight or a scale.
    """
    # Everything that is not in a part of its own is body.
    part_of = {id(p): "classifier" for p in net.head.parameters()}
    if settings.temporal_lr_mult != 1:
        new = new_in_modules(net)
        part_of |= {id(p): "temporal" for name, p in net.named_parameters() if name in new}
        if not new:
            _log.info(
                "optimizer.temporal_lr_mult = %g changes nothing: no weight in a temporal module "
                "of %s is new.",
                settings.temporal_lr_mult,
                net.name,
            )
    # Grouped by (part, is vector). Sorted keys fix the order of the groups, by which state.pt
    # stores the optimizer's state.
    members: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for parameter in net.parameters():
        if parameter.requires_grad:
            part = _PARTS.index(part_of.get(id(parameter), "body"))
            members.setdefault((part, parameter.ndim <= 1), []).append(parameter)
    rates = (1.0, settings.temporal_lr_mult, settings.classifier_lr_mult)
    decays = (1.0, 1.0, settings.classifier_decay_mult)
    return [
        {
            "params": parameters,
            "name": f"{_PARTS[part]}_{'norm_and_bias' if is_vector else 'weights'}",
            "lr": lr * rates[part],
            "weight_decay": settings.weight_decay * decays[part]
            if settings.decay_norm_and_bias or not is_vector
            else 0.0,
        }
        for (part, is_vector), parameters in sorted(members.items(), key=lambda m: m[0])
    ]


def build_optimizer(
    net: VideoNetwork, settings: OptimizerSettings, *, batch_size: int, fused: bool = False
) -> Optimizer:
    """Builds the optimizer of a recipe over the trainable parameters.

    With `fused` one kernel updates all parameters, with different rounding. On the CPU this
    requires gradients in the memory layout of their weights, as autograd makes them.
    """
    lr = effective_lr(settings, batch_size=batch_size)
    groups = parameter_groups(net, settings, lr=lr)
    if isinstance(settings, SGDSettings):
        return SGD(
            groups, lr=lr, momentum=settings.momentum, nesterov=settings.nesterov, fused=fused
        )
    return AdamW(groups, lr=lr, betas=settings.betas, fused=fused)


def rate_factor(
    step: int, *, settings: ScheduleSettings, epochs: int, steps_per_epoch: int, floor: float = 0.0
) -> float:
    """The learning rate as a multiple of the base rate.

    Args:
        step: Number of the optimizer step, from 0.
        settings: The schedule.
        epochs: Epochs of the whole run.
        steps_per_epoch: Optimizer steps in one.
        floor: `min_lr` of the cosine as a multiple of the base rate.
    """
    # Linear warmup multiplies the schedule, whose decay starts after it.
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
    step = max(step, warmup)
    if isinstance(settings, MultistepSettings):
        return float(
            rising * settings.gamma ** bisect_right(settings.milestones, step / steps_per_epoch)
        )
    if isinstance(settings, CosineSettings):
        done = min(1.0, (step - warmup) / max(1, epochs * steps_per_epoch - warmup))
        return rising * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))
    return rising


def build_schedule(
    optimizer: Optimizer,
    settings: ScheduleSettings,
    *,
    epochs: int,
    steps_per_epoch: int,
    lr: float,
) -> LambdaLR:
    """Builds the learning-rate schedule, stepped once per optimizer step; `lr` is the base rate.

    Raises:
        OptionError: the warm-up is longer than the run or `min_lr` above the base rate.
    """
    if settings.warmup_epochs > epochs:
        raise OptionError(
            f"schedule.warmup_epochs ({settings.warmup_epochs:g}) is longer than the run "
            f"({epochs} epochs)."
        )
    floor = settings.min_lr / lr if isinstance(settings, CosineSettings) else 0.0
    if floor > 1:
        raise OptionError(f"schedule.min_lr must be at most the learning rate {lr:g}.")
    factor = partial(
        rate_factor,
        settings=settings,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        floor=floor,
    )
    return LambdaLR(optimizer, factor)


def frozen_norm_layers(net: VideoNetwork) -> list[nn.Module]:
    """Freezes the BatchNorm layers except the first (partial BN of TSN).

    Their weights are frozen here; the caller keeps the returned layers in eval mode, which
    freezes their statistics. Layers of temporal modules that are new have no statistics to keep
    and go on training: those of ME, for example, when the backbone starts from ImageNet, but not
    after a transfer from a trained network (TEA supplement, section 2.2).

    Raises:
        OptionError: the network has fewer than two such BatchNorm layers.
    """
    new = new_in_modules(net)
    layers = [
        layer
        for name, layer in net.named_modules()
        if isinstance(layer, NORMS) and new.isdisjoint(layer.state_dict(prefix=f"{name}."))
    ]
    if len(layers) < 2:
        raise OptionError(
            f"train.norm_layers = 'freeze_all_but_first' needs a network with BatchNorm layers, "
            f"{net.name} has {len(layers)}. Use 'train'."
        )
    for layer in layers[1:]:
        layer.requires_grad_(False)
    return list(layers[1:])


Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


def ema_decay(decay: float, updates: int) -> float:
    """Decay after a number of updates; it starts low so that the initial weights fade quickly."""
    return min(decay, (1 + updates) / (10 + updates))


def build_ema(net: VideoNetwork, decay: float) -> AveragedModel:
    """Builds an exponential moving average of the weights and BatchNorm statistics of `net`.

    `update_parameters(net)` adds the current weights; `module` is the averaged network.
    """

    def blend(average: Tensors, current: Tensors, updates: torch.Tensor | int) -> None:
        rate = ema_decay(decay, int(updates))
        get_ema_multi_avg_fn(rate)(average, current, updates)  # type: ignore[no-untyped-call]  # as torch has it

    return AveragedModel(net, multi_avg_fn=blend, use_buffers=True)
