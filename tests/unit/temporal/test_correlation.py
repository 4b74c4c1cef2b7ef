"""Correlation within a window: the products it promises, and the memory it does not take."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kinema.temporal.kernels.correlation import correlate


@pytest.mark.parametrize(("height", "width", "radius"), [(5, 7, 1), (3, 2, 4), (1, 1, 2)])
def test_each_position_meets_those_around_it(height, width, radius):
    earlier, later = torch.randn(2, 2, 3, height, width).double()
    got = correlate(earlier, later, radius)
    assert got.shape == (2, height, width, 2 * radius + 1, 2 * radius + 1)
    for y, x, i, j in torch.cartesian_prod(*map(torch.arange, got.shape[1:])).tolist():
        row, column = y + i - radius, x + j - radius
        wanted = torch.zeros_like(got[:, y, x, i, j])
        if 0 <= row < height and 0 <= column < width:
            wanted = (earlier[:, :, y, x] * later[:, :, row, column]).sum(1)
        torch.testing.assert_close(got[:, y, x, i, j], wanted)


class Largest(TorchDispatchMode):
    """Number of values in the largest tensor that an operator returns."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [out] if isinstance(out, torch.Tensor) else out
        self.values = max(self.values, *(tensor.numel() for tensor in tensors))
        return out


def test_no_matrix_of_all_pairs_of_positions_is_stored():
    earlier, later = torch.randn(1, 8, 56, 56), torch.randn(1, 8, 56, 56)
    with Largest() as largest:
        got = correlate(earlier, later, radius=7)
    assert largest.values == got.numel() == 56**2 * 15**2
    assert largest.values < 56**4 / 10
