"""TEA: motion excitation and multiple temporal aggregation."""

from collections.abc import Callable
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from torch import nn

from kinema.errors import OptionError
from kinema.temporal.base import TemporalModule, check_choice, register
from kinema.temporal.conv import TIM, TemporalInit, reach
from kinema.temporal.kernels.gate import gate, spatial_mean
from kinema.temporal.kernels.layout import pairs, place_pairs
from kinema.temporal.memory import Memory
from kinema.temporal.se import ChannelGate, reduced

Transform = Literal["next", "both", "none"]
MTAInit = Literal["half_shift_last", TemporalInit]

# Runs a temporal convolution on the frames of clips or on the newest frames of streams.
OverTime = Callable[[TIM, torch.Tensor], torch.Tensor]


def conv1x1(channels: int, out_channels: int) -> nn.Conv2d:
    """A 1 x 1 convolution without bias, from Kaiming's normal distribution (fan out)."""
    conv = nn.Conv2d(channels, out_channels, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def depthwise3x3(channels: int) -> nn.Conv2d:
    """A depth-wise 3 x 3 convolution without bias, initialized as `conv1x1`."""
    conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


@register("me", at="after_conv1")
class ME(ChannelGate):
    """Motion excitation (TEA: Li et al., CVPR 2020, arXiv 2004.01398, eq. 2-7).

    The difference between the reduced frame and the transformed, reduced next frame is pooled and
    expanded; the output is x + x * (sigmoid - 1/2). The paper prints 2 sigmoid - 1 and the authors'
    code has half of that, sigmoid - 1/2: `gate_scale` 1 is the code (its checkpoints need it), 2
    the paper. As in the code, the last frame's difference is zero but its gate is not, because the
    norm maps zero to a constant.

    Causal: the difference of two frames gates the later frame.

    Weights: 2Cm + 9m + 2m + 2C with m = C//r. Multiply-adds: (Cm + 9m) per pixel and frame. State
    when streaming (causal): the means of the reduced previous frame (m values); otherwise it looks
    one frame ahead.

    Args:
        channels: C.
        frames: T.
        reduction: r.
        transform: Frames that pass the 3 x 3 transformation before the difference: `next` (the
            paper), `both`, or `none` (TEA supplement, section 3).
        gate_scale: 1 (code) or 2 (paper).
        causal: No frame looks ahead.
    """

    def __init__(
        self,
        channels: int,
        *,
        frames: int,
        reduction: int = 16,
        transform: Transform = "next",
        gate_scale: float = 1.0,
        causal: bool = False,
    ) -> None:
        super().__init__(
            frames=frames, look_back=int(causal), look_ahead=int(not causal), causal=causal
        )
        check_choice(get_args(Transform), **{"ME transform": transform})
        width = reduced(channels, reduction)
        self.transform_of = transform
        self.gate_scale = gate_scale
        self.reduce = nn.Sequential(conv1x1(channels, width), nn.BatchNorm2d(width))
        self.transform = nn.Identity() if transform == "none" else depthwise3x3(width)
        self.expand = nn.Sequential(conv1x1(width, channels), nn.BatchNorm2d(channels))

    def gate_factors(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C): 1 plus the excitation."""
        means_ND, transformed_ND = self._means(x_NCHW)
        present, _ = pairs(means_ND, self.frames)
        _, following = pairs(transformed_ND, self.frames)
        return self._excitation(place_pairs(following - present, causal=self.causal), x_NCHW.dtype)

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Excites the newest frames; the memory holds the means of the reduced frame."""
        means_ND, transformed_ND = self._means(x_NCHW)
        motion_ND = memory.where_started(transformed_ND - memory.delay(means_ND))
        return gate(x_NCHW, self._excitation(motion_ND, x_NCHW.dtype))

    def _means(self, x_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Means of each frame in its roles as the earlier and as the later frame of a pair.

        The mean of a difference is the difference of the means, so no difference map is stored.
        """
        reduced_NDHW = self.reduce(x_NCHW)
        transformed_NDHW = self.transform(reduced_NDHW)
        if self.transform_of == "both":
            reduced_NDHW = transformed_NDHW
        return spatial_mean(reduced_NDHW), spatial_mean(transformed_NDHW)

    def _excitation(self, motion_ND: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        gate_NC11 = self.expand(motion_ND.to(dtype)[:, :, None, None])
        return 1 + self.gate_scale * (torch.sigmoid(gate_NC11.flatten(1)) - 0.5)


@runtime_checkable
class GroupConvs(Protocol):
    """The 3 x 3 convolutions of a Res2Net block, with their norms and activation.

    There are len(convs) + 1 groups of `width` channels. With `first` (the first block of a stage)
    the groups are independent and the last one passes `pool`; otherwise the output of each group
    is added to the input of the next.
    """

    width: int
    first: bool
    convs: nn.ModuleList
    bns: nn.ModuleList
    act: nn.Module
    pool: nn.Module


@register("mta", at="replace_conv2")
class MTA(TemporalModule):
    """Multiple temporal aggregation (TEA: Li et al., CVPR 2020, arXiv 2004.01398, eq. 8).

    Replaces the 3 x 3 convolutions of a Res2Net block and adds a depth-wise temporal convolution in
    front of each group. By default (`half_shift_last`, the authors' code) the last of these starts
    as a shift, half of its channels from the next and half from the previous frame, the others as
    the identity. The supplement (section 1) initializes each of them as a part shift instead:
    `part_shift`. Both shift about an eighth of the block's channels in each direction.

    As in the authors' code, and unlike the paper's figure, the last group is the one without a
    spatial convolution and has a temporal convolution too, and the first block of each stage has
    no hierarchy.

    Weights: 3C more than Res2Net's. Multiply-adds: 3C more per pixel and frame. State when
    streaming (causal): two past frames of each group; otherwise it looks one frame ahead for each
    group of its hierarchy.

    Args:
        conv: The convolutions that it replaces; see `GroupConvs`.
        frames: T.
        init: `half_shift_last`, or an initialization of TIM for each temporal convolution; see
            `init_temporal_kernel`.
        causal: The last tap of each temporal convolution reads the frame itself.
    """

    inherited = ("convs", "bns")

    def __init__(
        self,
        conv: nn.Module,
        *,
        frames: int,
        init: MTAInit = "half_shift_last",
        causal: bool = False,
    ) -> None:
        check_choice(get_args(MTAInit), **{"MTA init": init})
        if not isinstance(conv, GroupConvs):
            raise OptionError(
                f"MTA needs the group of convolutions of a Res2Net block, got "
                f"{type(conv).__name__}. Use a Res2Net backbone, such as res2net50_26w_4s."
            )
        groups = len(conv.convs) + 1
        depth = 1 if conv.first else groups - 1
        super().__init__(frames=frames, causal=causal, **reach(3, causal=causal, times=depth))
        self.width = conv.width
        self.hierarchical = not conv.first
        last: TemporalInit = "half_shift" if init == "half_shift_last" else init
        others: TemporalInit = "identity" if init == "half_shift_last" else init
        self.shifts = nn.ModuleList(
            TIM(
                conv.width,
                frames=frames,
                init=last if group == groups - 1 else others,
                causal=causal,
            )
            for group in range(groups)
        )
        self.convs, self.bns = conv.convs, conv.bns
        self.act, self.pool = conv.act, conv.pool

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Aggregates group by group: (N, C, H, W) -> (N, C, H/stride, W/stride)."""
        return self._aggregate(x_NCHW, lambda shift, group: shift(group))

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Aggregates the newest frames."""
        return self._aggregate(x_NCHW, lambda shift, group: shift.step(group, memory))

    def _aggregate(self, x_NCHW: torch.Tensor, over_time: OverTime) -> torch.Tensor:
        groups = torch.split(x_NCHW, self.width, 1)
        shifts = [shift for shift in self.shifts if isinstance(shift, TIM)]
        outputs: list[torch.Tensor] = []
        for i, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            group = groups[i] + outputs[-1] if i > 0 and self.hierarchical else groups[i]
            outputs.append(self.act(bn(conv(over_time(shifts[i], group)))))
        outputs.append(self.pool(over_time(shifts[-1], groups[-1])))
        return torch.cat(outputs, 1)
