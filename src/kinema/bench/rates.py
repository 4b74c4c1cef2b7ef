"""Peak rates of the machine: matrix products and copies."""

import torch

from kinema.bench.timing import alternate

_SIDE = 2048
_COPY_VALUES = 64 * 2**20


def matrix_rate(dtype: torch.dtype, device: torch.device | str = "cpu") -> float:
    """Multiply-accumulates per second of a product of two square matrices of side 2048."""
    a, b = (torch.randn(_SIDE, _SIDE, device=device).to(dtype) for _ in range(2))
    timing = alternate({"product": lambda: a @ b}, rounds=7, warmup=3)["product"]
    return _SIDE**3 / timing.seconds


def copy_rate(device: torch.device | str = "cpu") -> float:
    """Bytes per second of a copy of 256 MB, reads and writes counted."""
    source = torch.randn(_COPY_VALUES, device=device)
    target = torch.empty_like(source)
    timing = alternate({"copy": lambda: target.copy_(source)}, rounds=7)["copy"]
    return 2 * source.numel() * source.element_size() / timing.seconds
