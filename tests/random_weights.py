"""Weights drawn at random, where those a network begins with would hide mistakes."""

from typing import TypeVar

import torch
from torch import nn

from kinema.models.families import RELATIONAL, SNIPPETS, families
from kinema.models.network import VideoNetwork
from kinema.models.zoo import create_model
from kinema.temporal import temporal_named

# Small backbones of the families that do not fit on timm's test backbone: they need the groups of
# a Res2Net block, three convolutions in every block, or several blocks in a stage.
OTHER_BACKBONES = {
    "mta": "res2net26_26w_4s",
    "tea": "res2net26_26w_4s",
    "smallbig": "resnet14t",
    "smallbig_extra": "resnet14t",
    "ctnet": "resnet18",
}

# Families without a causal form: their modules need the whole clip, or their head, or snippets.
NOT_CAUSAL = {
    family
    for family, parts in families().items()
    if family in (*RELATIONAL, *SNIPPETS)
    or not all(temporal_named(part.module).module.has_causal_form for part in parts)
}

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def randomized(module: AnyModule) -> AnyModule:
    """Fills every weight and statistic of a module, which is then in eval mode."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim == 1:
                tensor.normal_(std=0.5)
            elif tensor.ndim > 1:
                tensor.normal_(std=tensor[0].numel() ** -0.5)
    return module.eval()


def with_random_norms(net: AnyModule) -> AnyModule:
    """Fills the norms and the classifier of a network, so that its scores differ clearly.

    The last norm of a block is zero in the beginning, and the block does nothing.
    """
    for name, weight in net.named_parameters():
        if "bn" in name or "classifier" in name:
            nn.init.normal_(weight)
    return net


def tiny_network(family: str, **options: object) -> VideoNetwork:
    """A network of a family on timm's test backbone, of 3 classes and 4 frames, all drawn."""
    torch.manual_seed(0)
    return randomized(create_model(f"{family}_test_resnet", classes=3, frames=4, **options))


def spread_scores(net: VideoNetwork, clips: torch.Tensor) -> None:
    """Centers and scales the classifier so that the scores of these clips differ by several."""
    with torch.no_grad():
        scores_BK, classifier = net(clips), net.head.classifier
        factor = 3 / scores_BK.std(0).max()
        classifier.bias.sub_(scores_BK.mean(0)).mul_(factor)
        classifier.weight.mul_(factor)
