"""The classifier per frame and the consensus over the frames of a clip."""

import torch
from torch import nn


class ConsensusHead(nn.Module):
    """Dropout and a linear layer per frame; a clip's scores are the mean over its frames.

    As in the authors' code of TSM, TEA, TAM and GST the scores, not the features, are averaged;
    the linear layer starts from N(0, 0.001) with bias 0.
    """

    def __init__(self, features: int, classes: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, classes)
        nn.init.normal_(self.classifier.weight, 0, 0.001)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features_ND: torch.Tensor, frames: int) -> torch.Tensor:
        """(B*T, D) features -> (B, T, K) scores of each frame."""
        scores_NK: torch.Tensor = self.classifier(self.dropout(features_ND))
        return torch.unflatten(scores_NK, 0, (-1, frames))


def average_consensus(scores_BTK: torch.Tensor) -> torch.Tensor:
    """(B, T, K) -> (B, K), the mean over the frames."""
    return scores_BTK.mean(dim=1)
