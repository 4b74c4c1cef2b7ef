"""Loss of a clip (cross entropy, optionally class-balanced), and mixup and CutMix.

Letters: B clips, K classes.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from kinema.train.settings import TrainSettings
from kinema.values import Annotations


def balanced_weights(labels: Sequence[int], *, classes: int) -> torch.Tensor:
    """Class weights (K,) inverse to the number of videos, with a mean of 1 over all videos.

    A class without videos has weight 0.
    """
    counts_K = torch.bincount(torch.tensor(labels), minlength=classes)
    present = int((counts_K > 0).sum())
    weights_K = len(labels) / (present * counts_K.clamp(min=1).float())
    return weights_K * (counts_K > 0)


class ClipLoss:
    """Cross entropy between scores (B, K) and labels (B,) or soft targets (B, K).

    Averages over the B clips regardless of their weights, so that accumulated gradients equal
    those of the whole batch (torch would divide by the sum of the weights of each part).
    """

    def __init__(self, settings: TrainSettings, weights_K: torch.Tensor | None = None) -> None:
        self.smoothing = settings.label_smoothing
        self.weights_K = weights_K

    def __call__(self, scores_BK: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch, a scalar."""
        if self.weights_K is not None:
            self.weights_K = self.weights_K.to(scores_BK.device)
            if targets.ndim == 1:
                targets = F.one_hot(targets, scores_BK.shape[1]).to(scores_BK.dtype)
        return F.cross_entropy(
            scores_BK, targets, weight=self.weights_K, label_smoothing=self.smoothing
        )


def build_loss(settings: TrainSettings, videos: Annotations, *, classes: int) -> ClipLoss:
    """The loss of a recipe for these training videos."""
    if settings.class_weights is None:
        return ClipLoss(settings)
    labels = [sample.label for sample in videos.samples if sample.label is not None]
    return ClipLoss(settings, balanced_weights(labels, classes=classes))


Mixed = tuple[torch.Tensor, torch.Tensor]
Mixing = Callable[[torch.Tensor, torch.Tensor], Mixed]


def build_mixing(settings: TrainSettings, *, classes: int) -> Mixing | None:
    """Builds mixup or CutMix: clips (B, T, 3, H, W), labels (B,) to mixed clips, targets (B, K).

    Each clip is mixed with its neighbor in the shuffled batch, with torch's global generator.
    None if the recipe uses neither.
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
