"""Non-local block: attention over all positions of all frames."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

from kinema.errors import check_range
from kinema.temporal.base import TemporalModule, check_choice, register

ModeName = Literal["embedded_gaussian", "gaussian", "dot_product"]


@register("nl", at="after_block")
class NonLocal(TemporalModule):
    """Non-local block (Wang et al., CVPR 2018, arXiv 1711.07971, eq. 6).

    Each position of each frame attends to all positions of all frames, max-pooled 2 x 2 in space.
    `mode` is the similarity of two positions: the softmax of a product of two projections
    ("embedded_gaussian", eq. 3), of the features themselves ("gaussian", eq. 2), or the product of
    the projections divided by the number of positions ("dot_product", eq. 4). The softmax is not
    scaled, as in the code of TSM and TAM. The last norm starts at zero, so the block starts as the
    identity. NL C2D of the TAM paper has five blocks, behind every second block of res3 and res4.
    The attention matrix is never stored, and the dot product never computed for two positions:
    the sum over positions comes first.

    Weights: 2C^2 + 9C/2; "gaussian" C^2 + 7C/2. Multiply-adds per pixel and frame: 2C^2 and C T
    HW/4 for the attention; "gaussian" C^2 and 3/8 C T HW, "dot_product" 2C^2 and 5/16 C^2.
    State when streaming: there is no causal form, because each frame attends to the whole clip.

    Args:
        channels: C.
        frames: T.
        mode: Similarity of two positions.
        out_bias: True if the last convolution has a bias (mmaction2's has none).
        causal: Not supported; True raises OptionError.
    """

    has_causal_form = False

    def __init__(
        self,
        channels: int,
        *,
        frames: int,
        mode: ModeName = "embedded_gaussian",
        out_bias: bool = True,
        causal: bool = False,
    ) -> None:
        super().__init__(frames=frames, look_back=None, look_ahead=None, causal=causal)
        check_range(at_least=2, **{"channels of a non-local block": channels})
        check_choice(get_args(ModeName), **{"non-local mode": mode})
        self.mode = mode
        width = channels // 2
        self.theta = self.phi = None
        if mode != "gaussian":
            self.theta = nn.Conv2d(channels, width, 1)
            self.phi = nn.Conv2d(channels, width, 1)
        self.g = nn.Conv2d(channels, width, 1)
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.out = nn.Sequential(nn.Conv2d(width, channels, 1, bias=out_bias), norm)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Attends over the clip: (N, C, H, W) -> (N, C, H, W)."""
        queries = self._rows(x_NCHW if self.theta is None else self.theta(x_NCHW))
        keys = self._rows(_halved(x_NCHW if self.phi is None else self.phi(x_NCHW)))
        values = self._rows(_halved(self.g(x_NCHW)))
        if self.mode == "dot_product":
            # (q k') v = q (k' v), a small matrix instead of one of all pairs of positions.
            out_B1RD = queries @ ((keys / keys.shape[2]).transpose(2, 3) @ values)
        else:
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
