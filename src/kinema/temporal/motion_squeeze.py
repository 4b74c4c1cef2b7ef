"""MotionSqueeze: displacements between neighboring frames, as features of their own.

Letters: B clips, T frames, N = B*T, P pairs of frames, C channels, D reduced channels, H, W, R
radius, K = 2R+1 offsets along one axis.
"""

from collections import OrderedDict

import torch
from torch import nn

from kinema.errors import check_range
from kinema.temporal.base import TemporalModule, register
from kinema.temporal.kernels.correlation import correlate
from kinema.temporal.kernels.layout import pairs, place_pairs
from kinema.temporal.memory import Memory

# Fixed numbers of the authors' code.
WIDTH = 64  # D
SHARPNESS = 100.0  # factor of the similarities in the softmax
SPREAD = 5.0  # standard deviation of the Gaussian around the best match, in positions
REFINED = ((3, 16, 7), (16, 32, 3), (32, 64, 3))  # input channels, output channels, kernel
UNUSED_WIDTH = 128


@register("ms", at="after_block")
class MotionSqueeze(TemporalModule):
    """MotionSqueeze (MSNet: Kwon et al., ECCV 2020, arXiv 2007.09933).

    Each position of a frame is compared with the positions of the next frame at most R away along
    both axes: the products of reduced features of length 1. A softmax of the 225 products,
    weighted by a Gaussian around the largest, gives the mean displacement, two numbers between -1
    and 1, and the largest product is its confidence. Four depth-wise separable convolutions expand
    these three maps to C channels, which are added to the frame. The last frame takes the maps of
    the frame before it.

    Follows the authors' code; the paper's equations were not compared. Their network has TSM in
    all blocks and one module behind res3. In a clip of a single frame the maps are zero.

    Causal: the maps of two frames belong to the later one, and those of the first frame are zero.

    Weights: 130C + 4345. Multiply-adds per pixel and frame: 128C + 3763, and 64 K (W + 2R) for the
    products, of which a window needs 64 K^2. State when streaming (causal): the reduced previous
    frame (64 channels); otherwise it looks one frame ahead, and at the last frame one back.

    Args:
        channels: C.
        frames: T.
        radius: R, the largest displacement along each axis, in positions.
        unused_norm: Adds the norm of 128 channels that the authors' network holds but never runs,
            frozen, so that their files fit tensor for tensor.
        causal: No frame looks ahead.
    """

    def __init__(
        self,
        channels: int,
        *,
        frames: int,
        radius: int = 7,
        unused_norm: bool = False,
        causal: bool = False,
    ) -> None:
        super().__init__(frames=frames, look_back=1, look_ahead=0 if causal else 1, causal=causal)
        check_range(at_least=1, **{"MotionSqueeze radius": radius})
        self.radius = radius
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True)
        )
        stages = (*REFINED, (REFINED[-1][1], channels, 3))
        self.refine = nn.Sequential(
            OrderedDict((f"conv{i}", _separable(*stage)) for i, stage in enumerate(stages, 1))
        )
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        self.unused: nn.Module | None = None
        if unused_norm:
            self.unused = nn.BatchNorm2d(UNUSED_WIDTH).requires_grad_(False)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Adds motion features: (N, C, H, W) -> (N, C, H, W)."""
        earlier_BPDHW, later_BPDHW = pairs(self._directions(x_NCHW), self.frames)
        clips = earlier_BPDHW.shape[0]
        maps = displacements(earlier_BPDHW.flatten(0, 1), later_BPDHW.flatten(0, 1), self.radius)
        maps_BP3HW = torch.unflatten(maps, 0, (clips, self.frames - 1))
        if self.causal or self.frames == 1:
            maps_N3HW = place_pairs(maps_BP3HW, causal=self.causal)
        else:
            maps_N3HW = torch.cat([maps_BP3HW, maps_BP3HW[:, -1:]], 1).flatten(0, 1)
        return self._added(x_NCHW, maps_N3HW)

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Adds motion features to the newest frames; the memory holds the reduced frame."""
        later_NDHW = self._directions(x_NCHW)
        maps_N3HW = displacements(memory.delay(later_NDHW), later_NDHW, self.radius)
        return self._added(x_NCHW, memory.where_started(maps_N3HW))

    def _directions(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Reduced features of length 1, at least in float32: the softmax magnifies rounding."""
        reduced_NDHW: torch.Tensor = self.reduce(x_NCHW)
        wide_NDHW = reduced_NDHW.to(torch.promote_types(reduced_NDHW.dtype, torch.float32))
        return wide_NDHW / torch.sqrt(wide_NDHW.square().sum(1, keepdim=True) + 1e-6)

    def _added(self, x_NCHW: torch.Tensor, maps_N3HW: torch.Tensor) -> torch.Tensor:
        motion_NCHW: torch.Tensor = self.refine(maps_N3HW.to(x_NCHW.dtype))
        return x_NCHW + motion_NCHW


def displacements(
    earlier_PDHW: torch.Tensor, later_PDHW: torch.Tensor, radius: int
) -> torch.Tensor:
    """Displacement of each position between two frames, and its confidence.

    Args:
        earlier_PDHW: Features of the earlier frames, none negative.
        later_PDHW: Features of the later frames.
        radius: R.

    Returns:
        (P, 3, H, W): horizontal and vertical displacement in units of R, to the right and down
        positive, and the largest product.
    """
    device = earlier_PDHW.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return displacements(earlier_PDHW, later_PDHW, radius)
    products_PHWKK = correlate(earlier_PDHW, later_PDHW, radius)
    offsets = 2 * radius + 1
    best_PHW, index_PHW = products_PHWKK.flatten(3).max(3)
    row_PHW = torch.div(index_PHW, offsets, rounding_mode="floor")
    steps_K = torch.arange(offsets, dtype=best_PHW.dtype, device=best_PHW.device)
    near_rows_PHWK = _gaussian(steps_K - row_PHW.unsqueeze(3))
    near_columns_PHWK = _gaussian(steps_K - (index_PHW - row_PHW * offsets).unsqueeze(3))
    weighted_PHWKK = products_PHWKK * near_rows_PHWK.unsqueeze(4) * near_columns_PHWK.unsqueeze(3)
    shares_PHWS = torch.softmax(SHARPNESS * weighted_PHWKK.flatten(3), 3)
    shares_PHWKK = torch.unflatten(shares_PHWS, 3, (offsets, offsets))
    relative_K = (steps_K - radius) / radius
    right_PHW = (shares_PHWKK.sum(3) * relative_K).sum(3)
    down_PHW = (shares_PHWKK.sum(4) * relative_K).sum(3)
    return torch.stack([right_PHW, down_PHW, best_PHW], 1)


def _gaussian(distance: torch.Tensor) -> torch.Tensor:
    return torch.exp(distance.square() / (-2 * SPREAD**2))


def _separable(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Depth-wise, then 1 x 1 convolution, each with norm and activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, kernel, padding=kernel // 2, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
