"""Non-local block: attention over all positions of all frames."""

import torch
import torch.nn.functional as F
from torch import nn

from kinema.errors import check_range
from kinema.temporal.base import TemporalModule, register


@register("nl", at="after_block")
class NonLocal(TemporalModule):
    """Non-local block, embedded Gaussian (Wang et al., CVPR 2018, arXiv 1711.07971, eq. 6).

    Each position of each frame attends to all positions of all frames, max-pooled 2 x 2 in space.
    The softmax is not scaled, as in the code of TSM and TAM. The last norm starts at zero, so the
    block starts as the identity. NL C2D of the TAM paper has five blocks, behind every second block
    of res3 and res4. The attention matrix is never stored.

    Weights: 2C^2 + 9C/2. Multiply-adds: 2C^2 per pixel and frame and C T HW/4 more for the
    attention. State when streaming: there is no causal form, because each frame attends to the
    whole clip.

    Args:
        channels: C.
        frames: T.
        out_bias: True if the last convolution has a bias (mmaction2's has none).
        causal: Not supported; True raises OptionError.
    """

    has_causal_form = False

    def __init__(
        self, channels: int, *, frames: int, out_bias: bool = True, causal: bool = False
    ) -> None:
        super().__init__(frames=frames, look_back=None, look_ahead=None, causal=causal)
        check_range(at_least=2, **{"channels of a non-local block": channels})
        width = channels // 2
        self.theta = nn.Conv2d(channels, width, 1)
        self.phi = nn.Conv2d(channels, width, 1)
        self.g = nn.Conv2d(channels, width, 1)
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.out = nn.Sequential(nn.Conv2d(width, channels, 1, bias=out_bias), norm)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Attends over the clip: (N, C, H, W) -> (N, C, H, W)."""
        queries = self._rows(self.theta(x_NCHW))
        keys = self._rows(_halved(self.phi(x_NCHW)))
        values = self._rows(_halved(self.g(x_NCHW)))
        out_B1RD = F.scaled_dot_product_attention(queries, keys, values, scale=1.0)
        height, width = x_NCHW.shape[2:]
        out_BTHWD = torch.unflatten(out_B1RD.squeeze(1), 1, (self.frames, height, width))
        out_NCHW: torch.Tensor = self.out(out_BTHWD.flatten(0, 1).permute(0, 3, 1, 2))
        return x_NCHW + out_NCHW

    def _rows(self, x_NDHW: torch.Tensor) -> torch.Tensor:
        """(N, D, H, W) -> (B, 1, T*H*W, D): one row per position of a clip."""
        x_BTHWD = torch.unflatten(x_NDHW.permute(0, 2, 3, 1), 0, (-1, self.frames))
        return x_BTHWD.flatten(1, 3).unsqueeze(1)


def _halved(x_NCHW: torch.Tensor) -> torch.Tensor:
    """Max-pools 2 x 2, except along a side of one pixel."""
    height, width = x_NCHW.shape[2:]
    return F.max_pool2d(x_NCHW, (min(2, height), min(2, width)))
