"""Classifier per frame, and consensus over the frames of a clip."""

import torch
from torch import nn


class ConsensusHead(nn.Module):
    """Dropout and a linear layer per frame; the scores of a clip are the mean over its frames.

    Averages scores, not features, as in the authors' code of TSM, TEA, TAM and GST; the linear
    layer is initialized from N(0, 0.001) with bias 0.
    """

    def __init__(self, features: int, classes: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, classes)
        nn.init.normal_(self.classifier.weight, 0, 0.001)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features_ND: torch.Tensor, frames: int) -> torch.Tensor:
        """Scores of each frame (B, T, K) from features (B*T, D)."""
        scores_NK: torch.Tensor = self.classifier(self.dropout(features_ND))
        return torch.unflatten(scores_NK, 0, (-1, frames))


def average_consensus(scores_BTK: torch.Tensor) -> torch.Tensor:
    """Mean over the frames: (B, T, K) -> (B, K)."""
    return scores_BTK.mean(dim=1)
