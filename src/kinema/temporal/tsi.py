"""TSI: salient motion excitation (SME), cross-scale temporal integration (CTI), and both fused."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

from kinema.errors import OptionError, check_range
from kinema.temporal.base import Position, TemporalModule, check_choice, register
from kinema.temporal.conv import TIM, reach
from kinema.temporal.inflated import conv_like, plain_conv
from kinema.temporal.kernels import native
from kinema.temporal.kernels.gate import gate, spatial_mean
from kinema.temporal.kernels.layout import pairs, place_pairs
from kinema.temporal.memory import Memory
from kinema.temporal.se import reduced
from kinema.temporal.tea import OverTime, conv1x1, depthwise3x3

Fusion = Literal["cascade", "sum", "concat"]


@register("sme", at="after_conv2", at_basic="after_conv1")
class SME(TemporalModule):
    """Salient motion excitation (TSI: Su et al., arXiv 2106.01088, eq. 3-7).

    Saliency alignment multiplies the reduced next frame by the attention of the reduced frame
    (queries) over the positions of the next frame (keys and values). A cascade of depth-wise 3 x 3
    convolutions builds a pyramid of it. Its differences to the frame are summed and pooled, and
    the output is x + x * sigmoid. The attention matrix is never stored.

    No code is published. Our choices for what the text leaves open: softmax over the keys with
    1/sqrt(m), norms behind both 1 x 1 convolutions, no motion at the last frame, and K+1
    convolutions for the sum over k = 0..K. Without channel attention the expanded motion map is
    added to x; such a network needs norms with statistics of real data, because the product of
    the alignment grows from block to block.

    Causal: the motion between two frames gates the later frame.

    Weights: 2Cm + 9m(K+1) + 2m + 2C with m = C//r. Multiply-adds: Cm + 9m(K+1) + 2HWm per pixel
    and frame, 2HWm of them in the two products of the alignment. State when streaming (causal):
    the reduced previous frame (m channels); otherwise it looks one frame ahead.

    Args:
        channels: C.
        frames: T.
        reduction: r.
        pyramid: K, the highest level of the pyramid.
        alignment: False leaves out saliency alignment (SA).
        channel_attention: False adds the motion map to x instead of gating x (CA).
        keep_features: Starts the last norm at 0 and thus the gate as a constant, so that the
            backbone's features pass unchanged at first. For fine-tuning on few videos.
        causal: No frame looks ahead.
    """

    def __init__(
        self,
        channels: int,
        *,
        frames: int,
        reduction: int = 16,
        pyramid: int = 4,
        alignment: bool = True,
        channel_attention: bool = True,
        keep_features: bool = False,
        causal: bool = False,
    ) -> None:
        super().__init__(
            frames=frames, look_back=int(causal), look_ahead=int(not causal), causal=causal
        )
        check_range(at_least=0, **{"SME pyramid": pyramid})
        width = reduced(channels, reduction)
        self.alignment = alignment
        self.channel_attention = channel_attention
        self.reduce = nn.Sequential(conv1x1(channels, width), nn.BatchNorm2d(width))
        self.pyramid = nn.ModuleList(depthwise3x3(width) for _ in range(pyramid + 1))
        norm = nn.BatchNorm2d(channels)
        if keep_features:
            nn.init.zeros_(norm.weight)
        self.expand = nn.Sequential(conv1x1(width, channels), norm)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Gates channels by salient motion: (N, C, H, W) -> (N, C, H, W)."""
        reduced_NDHW = self.reduce(x_NCHW)
        # T frames have P = T-1 motions between them; `place_pairs` below decides which frame of a
        # pair each one gates.
        present_BPDHW, following_BPDHW = pairs(reduced_NDHW, self.frames)
        clips = present_BPDHW.shape[0]
        motion = self._motion(present_BPDHW.flatten(0, 1), following_BPDHW.flatten(0, 1))
        motion_BPDHW = torch.unflatten(motion.to(x_NCHW.dtype), 0, (clips, -1))
        return self._excited(x_NCHW, place_pairs(motion_BPDHW, causal=self.causal))

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Gates the newest frames; the memory holds the reduced frame."""
        reduced_NDHW = self.reduce(x_NCHW)
        motion = self._motion(memory.delay(reduced_NDHW), reduced_NDHW).to(x_NCHW.dtype)
        return self._excited(x_NCHW, memory.where_started(motion))

    def _motion(self, present: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        """Salient motion of pairs of frames (P, D, H, W), pooled for channel attention."""
        # Attention finds where each place of the present frame went, and the product keeps
        # only what both frames show.
        if self.alignment:
            following = following * attend(present, following)
        # Stacked 3 x 3 convolutions see 3, 5, 7, ... pixels, one level per speed of motion.
        levels = [self.pyramid[0](following)]
        for conv in self.pyramid[1:]:
            levels.append(conv(levels[-1] + following))
        if self.channel_attention:
            # The mean of the differences is the difference of the means.
            means = torch.stack([spatial_mean(level) for level in levels])
            return (means.sum(0) - len(levels) * spatial_mean(present))[:, :, None, None]
        # Each level is compared with the same frame, so its difference counts once per level.
        return torch.stack(levels).sum(0) - len(levels) * present

    def _excited(self, x_NCHW: torch.Tensor, motion_NDHW: torch.Tensor) -> torch.Tensor:
        motion_NCHW: torch.Tensor = self.expand(motion_NDHW)
        # x + x * sigmoid is one multiply by 1 + sigmoid.
        if self.channel_attention:
            return gate(x_NCHW, 1 + torch.sigmoid(motion_NCHW.flatten(1)))
        return x_NCHW + motion_NCHW


def attend(queries_PDHW: torch.Tensor, keys_PDHW: torch.Tensor) -> torch.Tensor:
    """Scaled dot-product attention over the positions of a frame, with the keys as values.

    The HW x HW attention matrix is not stored.

    Args:
        queries_PDHW: Earlier frames of P pairs, D channels.
        keys_PDHW: Later frames of the pairs.

    Returns:
        (P, D, H, W), in the memory format of the queries.
    """
    height, width = queries_PDHW.shape[2:]
    queries = queries_PDHW.permute(0, 2, 3, 1).flatten(1, 2)
    keys = keys_PDHW.permute(0, 2, 3, 1).flatten(1, 2)
    if native.takes_attention(queries) and not (queries.requires_grad or keys.requires_grad):
        out_PSD = native.attend(queries, keys, scale=queries.shape[2] ** -0.5)
    else:
        out_PSD = _attend_fused(queries.contiguous(), keys.contiguous())
    return torch.unflatten(out_PSD, 1, (height, width)).permute(0, 3, 1, 2)


def _attend_fused(queries_PSD: torch.Tensor, keys_PSD: torch.Tensor) -> torch.Tensor:
    """PyTorch's fused attention. It needs D contiguous in memory, or it stores S x S scores.

    Training on the CPU uses float32: bfloat16 takes 1.4 times as long at 784 positions and three
    times as long at 196.
    """
    queries, keys = queries_PSD.unsqueeze(1), keys_PSD.unsqueeze(1)
    if queries.device.type == "cpu" and queries.requires_grad:
        wide = torch.promote_types(queries.dtype, torch.float32)
        queries, keys = queries.to(wide), keys.to(wide)
        with torch.autocast("cpu", enabled=False):
            out_P1SD = F.scaled_dot_product_attention(queries, keys, keys)
    else:
        out_P1SD = F.scaled_dot_product_attention(queries, keys, keys)
    return out_P1SD.squeeze(1).to(queries_PSD.dtype)


@register("cti", at="after_conv2", at_basic="after_conv1")
class CTI(TemporalModule):
    """Cross-scale temporal integration (TSI: Su et al., arXiv 2106.01088, eq. 8-10).

    The channels are split into groups. The first group passes unchanged. Each further group is
    mixed with the result of the previous group, by weights from their pooled sum, and then
    convolved along time, so that later groups see wider windows. The softmax of eq. 10 is over the
    two candidates of each channel. The temporal kernels start as a part shift. No code is
    published.

    Weights: (groups-1) (2m^2 + 2m + 3m) with m = C/groups. Multiply-adds: 3m (groups-1) per pixel
    and frame. State when streaming (causal): two past frames of each group but the first;
    otherwise it looks up to groups-1 frames ahead.

    Args:
        channels: C.
        frames: T.
        groups: Number of groups; it must divide C.
        keep_features: Each group starts as 0.98 of itself and 0.02 of the previous group instead of
            half of each, so that the backbone's features pass at first. For fine-tuning on few
            videos.
        causal: The last tap of each temporal kernel reads the frame itself.
    """

    def __init__(
        self,
        channels: int,
        *,
        frames: int,
        groups: int = 4,
        keep_features: bool = False,
        causal: bool = False,
    ) -> None:
        depth = groups - 1
        super().__init__(frames=frames, causal=causal, **reach(3, causal=causal, times=depth))
        if groups < 2 or channels % groups:
            raise OptionError(
                f"CTI groups must be at least 2 and divide the {channels} channels, got {groups}."
            )
        width = channels // groups
        self.width = width
        self.weigh = nn.ModuleList(_weigh(width, keep_features) for _ in range(depth))
        self.shifts = nn.ModuleList(TIM(width, frames=frames, causal=causal) for _ in range(depth))

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Integrates group after group: (N, C, H, W) -> (N, C, H, W)."""
        return self._integrate(x_NCHW, lambda shift, mixed: shift(mixed))

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Integrates the newest frames."""
        return self._integrate(x_NCHW, lambda shift, mixed: shift.step(mixed, memory))

    def _integrate(self, x_NCHW: torch.Tensor, over_time: OverTime) -> torch.Tensor:
        first, *rest = torch.split(x_NCHW, self.width, 1)
        # A chain: each group reads the output of the previous one, so that one 3-tap kernel per
        # group gives windows of 1, 3, 5 and 7 frames.
        outputs = [first]
        for group, weigh, shift in zip(rest, self.weigh, self.shifts, strict=True):
            pooled_ND = (spatial_mean(outputs[-1]) + spatial_mean(group)).to(group.dtype)
            keep, take = weigh(pooled_ND).chunk(2, 1)
            # The softmax over two candidates is the sigmoid of their difference.
            share = torch.sigmoid(keep - take).to(group.dtype)[:, :, None, None]
            # lerp reads both groups once, where two products and a sum read and write twice.
            mixed = torch.lerp(outputs[-1].to(group.dtype), group, share)
            assert isinstance(shift, TIM)
            outputs.append(over_time(shift, mixed))
        return torch.cat(outputs, 1)


def _weigh(width: int, keep_features: bool) -> nn.Linear:
    """Linear layer of two logits per channel: for the group itself and for the previous group."""
    layer = nn.Linear(width, 2 * width)
    if keep_features:
        nn.init.constant_(layer.bias[:width], 4.0)  # sigmoid(4) = 0.98
    return layer


@register("tsi", at="after_conv2", at_basic="after_conv1")
class TSI(TemporalModule):
    """Temporal saliency integration: SME and CTI (TSI: Su et al., 2021, arXiv 2106.01088, table 7).

    `cascade` (the paper's block) is CTI(SME(x)), `sum` is SME(x) + CTI(x). `concat` feeds both to
    the next convolution, which is widened to twice its input channels with half of its weight for
    each; the module then replaces that convolution. No code is published.

    Weights, multiply-adds and state: those of SME and CTI, plus for `concat` those of the
    convolution a second time.

    Args:
        channels: C.
        frames: T.
        fusion: "cascade", "sum" or "concat".
        reduction: See SME.
        pyramid: See SME.
        alignment: See SME.
        channel_attention: See SME.
        groups: See CTI.
        keep_features: See SME and CTI.
        causal: No frame looks ahead.
    """

    inherited = ("widened",)

    def __init__(  # noqa: PLR0913 - the options of its two parts
        self,
        channels: int,
        *,
        frames: int,
        fusion: Fusion = "cascade",
        reduction: int = 16,
        pyramid: int = 4,
        alignment: bool = True,
        channel_attention: bool = True,
        groups: int = 4,
        keep_features: bool = False,
        causal: bool = False,
    ) -> None:
        check_choice(get_args(Fusion), **{"TSI fusion": fusion})
        sme = SME(
            channels,
            frames=frames,
            reduction=reduction,
            pyramid=pyramid,
            alignment=alignment,
            channel_attention=channel_attention,
            keep_features=keep_features,
            causal=causal,
        )
        cti = CTI(
            channels, frames=frames, groups=groups, keep_features=keep_features, causal=causal
        )
        # In the cascade CTI reads what SME has mixed, so their reaches add up.
        combine = sum if fusion == "cascade" else max
        super().__init__(
            frames=frames,
            look_back=combine((sme.look_back or 0, cti.look_back or 0)),
            look_ahead=combine((sme.look_ahead or 0, cti.look_ahead or 0)),
            causal=causal,
        )
        self.fusion = fusion
        self.sme, self.cti = sme, cti
        self.widened: nn.Conv2d | None = None

    @classmethod
    def positions_for(cls, options: Mapping[str, Any]) -> tuple[Position, ...] | None:
        """With `fusion="concat"` the module replaces the next convolution."""
        return ("replace_conv3", "replace_conv2") if options.get("fusion") == "concat" else None

    @classmethod
    def from_conv(cls, conv: nn.Module, *, frames: int, **options: Any) -> "TSI":
        """Widens the convolution; only for `fusion="concat"`."""
        if options.get("fusion") != "concat":
            raise OptionError("TSI replaces a convolution only with fusion='concat'.")
        conv = plain_conv(conv, "TSI with fusion='concat'")
        module = cls(conv.in_channels, frames=frames, **options)
        # Half of the weight for each input: equal inputs give the output of the old convolution.
        module.widened = conv_like(conv, conv.weight.detach().repeat(1, 2, 1, 1) / 2)
        return module

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Fuses SME and CTI: (N, C, H, W) -> (N, C, H, W), or the widened convolution's output."""
        return self._fused(x_NCHW, self.sme(x_NCHW), self.cti)

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Fuses SME and CTI for the newest frames."""
        salient_NCHW = self.sme.step(x_NCHW, memory)
        return self._fused(x_NCHW, salient_NCHW, functools.partial(self.cti.step, memory=memory))

    def _fused(
        self,
        x_NCHW: torch.Tensor,
        salient_NCHW: torch.Tensor,
        cti: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        if self.fusion == "cascade":
            return cti(salient_NCHW)
        cascaded_NCHW = cti(x_NCHW)
        if self.widened is None:
            return salient_NCHW + cascaded_NCHW
        out_NCHW: torch.Tensor = self.widened(torch.cat([salient_NCHW, cascaded_NCHW], 1))
        return out_NCHW
