"""Mixup and CutMix on whole clips: the same blend or box for all frames of a clip.

Letters: B clips, T frames, H, W, K classes.
"""

from collections.abc import Callable

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from kinema.train.settings import TrainSettings

Mixed = tuple[torch.Tensor, torch.Tensor]
Mixing = Callable[[torch.Tensor, torch.Tensor], Mixed]


def build_mixing(settings: TrainSettings, *, classes: int) -> Mixing | None:
    """What turns clips (B, T, 3, H, W) float and labels (B,) into mixed clips and targets (B, K).

    Each clip is mixed with its neighbour in the (shuffled) batch; random numbers come from
    torch's global generator. None when the recipe has neither.
    """
    kinds: list[v2.Transform] = []
    if settings.mixup_alpha is not None:
        kinds.append(v2.MixUp(alpha=settings.mixup_alpha, num_classes=classes))
    if settings.cutmix_alpha is not None:
        kinds.append(v2.CutMix(alpha=settings.cutmix_alpha, num_classes=classes))
    if not kinds:
        return None
    chosen = kinds[0] if len(kinds) == 1 else v2.RandomChoice(kinds)

    def mix(clips_BTCHW: torch.Tensor, labels_B: torch.Tensor) -> Mixed:
        clips, targets_BK = chosen(tv_tensors.Video(clips_BTCHW), labels_B)
        return clips.as_subclass(torch.Tensor), targets_BK

    return mix
