"""Correlation of two frames within a window, without a matrix of all pairs of positions.

Letters: P pairs of frames, D channels, H, W, R radius, K = 2R+1 offsets along one axis.
"""

import torch
import torch.nn.functional as F


def correlate(earlier_PDHW: torch.Tensor, later_PDHW: torch.Tensor, radius: int) -> torch.Tensor:
    """Products of each position with the positions around it in the later frame.

    One matrix product for each vertical offset multiplies the rows of the earlier frame by those
    of the later one, and the band of horizontal offsets is cut out of it. At a radius of 7 and 28 x
    28 positions it takes as long as a product and a sum for each of the 225 offsets, which in
    training would write the padded frame's gradient 225 times.

    Args:
        earlier_PDHW: Earlier frames.
        later_PDHW: Later frames.
        radius: R, the largest offset along each axis.

    Returns:
        (P, H, W, K, K), where [p, y, x, i, j] is the product of (y, x) and (y+i-R, x+j-R): 0
        outside the frame.
    """
    height, width = earlier_PDHW.shape[2:]
    offsets, padded = 2 * radius + 1, width + 2 * radius
    queries_PHWD = earlier_PDHW.permute(0, 2, 3, 1)
    keys_PHDW = F.pad(later_PDHW, (radius,) * 4).permute(0, 2, 1, 3)
    bands = []
    for offset in range(offsets):
        rows_PHWW = queries_PHWD @ keys_PHDW[:, offset : offset + height]
        # Rows that are one value longer turn the diagonals into columns.
        skewed_PHS = F.pad(rows_PHWW.flatten(2), (0, width))
        bands.append(torch.unflatten(skewed_PHS, 2, (width, padded + 1))[..., :offsets])
    return torch.stack(bands, 3)
