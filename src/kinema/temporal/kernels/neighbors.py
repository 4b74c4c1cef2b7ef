"""Pairs of neighboring frames.

Letters: B clips, T frames, N = B*T, ... any further axes.
"""

import torch


def pairs(x_N: torch.Tensor, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames 0..T-2 and frames 1..T-1 of every clip: (N, ...) -> twice (B, T-1, ...), views."""
    x_BT = torch.unflatten(x_N, 0, (-1, frames))
    return x_BT[:, :-1], x_BT[:, 1:]


def place_pairs(pairs_BP: torch.Tensor, *, causal: bool) -> torch.Tensor:
    """(B, T-1, ...) -> (N, ...): each pair's value at its earlier frame, zeros at the last frame.

    With `causal` each pair's value is at its later frame, with zeros at the first frame.
    """
    zeros_B1 = pairs_BP.new_zeros((pairs_BP.shape[0], 1, *pairs_BP.shape[2:]))
    parts = (zeros_B1, pairs_BP) if causal else (pairs_BP, zeros_B1)
    return torch.cat(parts, 1).flatten(0, 1)
