"""SmallBig: a second view of every convolution, through the maximum of neighbors or of the clip.

Letters: B clips, T frames, N = B*T, C channels in, O channels out of the convolution, H, W, D
reduced channels, S = H*W.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

from kinema.errors import OptionError
from kinema.temporal.base import TemporalModule, check_choice, register
from kinema.temporal.inflated import plain_conv
from kinema.temporal.kernels.layout import fold_view, time_view
from kinema.temporal.se import reduced

WindowName = Literal["neighbors", "clip"]

# Side of the window of the maximum in space, and in time for "neighbors".
SIDE = 3


@register("bigview", at="replace_conv1")
class BigView(TemporalModule):
    """Big view of SmallBigNet (Li et al., CVPR 2020, arXiv 2006.14582).

    Replaces a convolution K and the norm behind it by norm(K x) + big_norm(K max(x)): the same
    weights see the frame itself and the maximum over a window around each position. The window is
    3 x 3 x 3 ("neighbors", the first two convolutions of a block) or all frames of the clip times
    3 x 3 ("clip", the last one), whose convolution is computed once per clip. The scale of the big
    norm starts at zero, so the block starts as before. The windows are symmetric in time, so a
    network without other modules does not see the direction in which a clip runs.

    Follows a description of the authors' code, which has no license; the paper's equations were not
    compared. Their blocks have three convolutions, and so have ours.

    Weights: 2O more than the convolution and the norm. Multiply-adds: as many as the convolution
    again; with "clip" 1/T of them. State when streaming: there is no causal form, because the view
    of a block's last convolution is the maximum of the whole clip.

    Args:
        conv: The convolution that it replaces.
        norm: The norm behind it, which it replaces, too.
        frames: T.
        window: Window of the maximum in time.
        causal: Not supported; True raises OptionError.
    """

    inherited = ("conv.", "small_norm.")
    has_causal_form = False

    def __init__(
        self,
        conv: nn.Module,
        norm: nn.Module,
        *,
        frames: int,
        window: WindowName = "neighbors",
        causal: bool = False,
    ) -> None:
        check_choice(get_args(WindowName), **{"BigView window": window})
        reach = SIDE // 2 if window == "neighbors" else None
        super().__init__(frames=frames, look_back=reach, look_ahead=reach, causal=causal)
        # Subclasses of the norm have an activation inside.
        if type(norm) not in (nn.BatchNorm2d, nn.SyncBatchNorm):
            raise OptionError(
                f"BigView replaces a BatchNorm2d, but this backbone has a {type(norm).__name__} "
                "there. Use a backbone such as resnet50."
            )
        self.window = window
        self.conv = plain_conv(conv, "BigView", groups=True)
        self.small_norm = norm
        self.big_norm = nn.BatchNorm2d(self.conv.out_channels)
        nn.init.zeros_(self.big_norm.weight)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Adds both views: (N, C, H, W) -> (N, O, H/stride, W/stride)."""
        small_NOHW: torch.Tensor = self.small_norm(self.conv(x_NCHW))
        if self.window == "neighbors":
            big_NOHW: torch.Tensor = self._big(_largest_neighbor(x_NCHW, self.frames))
            return small_NOHW + big_NOHW
        big_BOHW = self._big(torch.unflatten(x_NCHW, 0, (-1, self.frames)).amax(1))
        small_BTOHW = torch.unflatten(small_NOHW, 0, (-1, self.frames))
        return (small_BTOHW + big_BOHW.unsqueeze(1)).flatten(0, 1)

    def _big(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Convolution and norm of the maximum over 3 x 3 positions."""
        pooled_NCHW = F.max_pool2d(x_NCHW, SIDE, stride=1, padding=SIDE // 2)
        big_NOHW: torch.Tensor = self.big_norm(self.conv(pooled_NCHW))
        return big_NOHW


@register("maxgate", at="block")
class MaxGate(TemporalModule):
    """Gate of the larger SmallBigNet, `extra` in its code (Li et al., CVPR 2020, arXiv 2006.14582).

    x + norm(expand(reduce(x) * sigmoid(reduce(largest)))), where `largest` is the maximum of every
    channel over the clip and `reduce` the same 1 x 1 convolution in both places. It stands in front
    of a whole block, so the identity path carries the sum, too. The scale of the norm starts at
    zero, so the module starts as the identity. It does not see the order of the frames.

    Follows a description of the authors' code, which has no license; the paper was not compared.

    Weights: 2CD + 2C with D = C//r. Multiply-adds: 2CD per pixel and frame, CD per clip. State when
    streaming: there is no causal form, because the maximum is that of the whole clip.

    Args:
        channels: C.
        frames: T.
        reduction: r.
        causal: Not supported; True raises OptionError.
    """

    has_causal_form = False

    def __init__(
        self, channels: int, *, frames: int, reduction: int = 4, causal: bool = False
    ) -> None:
        super().__init__(frames=frames, look_back=None, look_ahead=None, causal=causal)
        width = reduced(channels, reduction)
        self.reduce = nn.Conv2d(channels, width, 1, bias=False)
        norm = nn.BatchNorm2d(channels)
        self.expand = nn.Sequential(nn.Conv2d(width, channels, 1, bias=False), norm)
        nn.init.kaiming_normal_(self.reduce.weight, mode="fan_out", nonlinearity="relu")
        nn.init.kaiming_normal_(
            self.expand.get_parameter("0.weight"), mode="fan_out", nonlinearity="relu"
        )
        nn.init.zeros_(norm.weight)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Adds the gated frames: (N, C, H, W) -> (N, C, H, W)."""
        largest_BC = torch.unflatten(x_NCHW.amax((2, 3)), 0, (-1, self.frames)).amax(1)
        gate_BD11 = torch.sigmoid(self.reduce(largest_BC[:, :, None, None]))
        gate_ND11 = gate_BD11.repeat_interleave(self.frames, 0)
        gated_NCHW: torch.Tensor = self.expand(self.reduce(x_NCHW) * gate_ND11)
        return x_NCHW + gated_NCHW


def _largest_neighbor(x_NCHW: torch.Tensor, frames: int) -> torch.Tensor:
    """Maximum of each frame and its neighbors in time."""
    x_BCTS = time_view(x_NCHW, frames)
    out_BCTS = F.max_pool2d(x_BCTS, (SIDE, 1), stride=1, padding=(SIDE // 2, 0))
    return fold_view(out_BCTS, *x_NCHW.shape[2:])
