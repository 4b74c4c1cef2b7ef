"""Video network: a backbone, temporal modules at its sites, a classifier and a consensus.

Letters: B clips, T frames, N = B*T, C channels, H, W, D features, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from kinema.errors import InputShapeError, OptionError, SiteError, check_range
from kinema.models.backbones import build_backbone
from kinema.models.cost import count_cost, count_reach, outermost
from kinema.models.placement import Blocks, Site
from kinema.models.sites import SiteMap
from kinema.models.snippets import SnippetResNet
from kinema.models.streaming import StreamingNetwork, check_floating
from kinema.models.temporal_pool import STRIDE, TemporalMaxPool
from kinema.temporal import (
    TRN,
    Position,
    TemporalEntry,
    TemporalModule,
    position_named,
    temporal_named,
)
from kinema.temporal.trn import Subsets
from kinema.values import Cost, Reach, WeightsReport

# All kinds of batch norm.
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

# A network or a faster form of it: clips (B, T, 3, H, W) to scores (B, K). A network on snippets of
# S frames takes (B, T * S, 3, H, W).
Run = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Insertion:
    """Record of an `insert` and its sites, to repeat it on a new backbone."""

    module: str
    at: str
    blocks: tuple[tuple[int, int], ...]
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class NetworkSpec:
    """Everything needed to rebuild a network, without its weights."""

    name: str
    backbone: str
    classes: int
    frames: int
    dropout: float
    relations: Subsets | None = None
    temporal_pool: bool = False
    insertions: tuple[Insertion, ...] = ()
    snippet: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for config.json."""
        data = asdict(self)
        if self.snippet == 1:  # so that earlier versions read the folders of other networks
            del data["snippet"]
        for insertion in data["insertions"]:
            insertion["options"] = dict(insertion["options"])
        return data


class ConsensusHead(nn.Module):
    """Dropout and a linear layer per frame; the scores of a clip are the mean over its frames.

    Averages scores, not features, as in the authors' code of TSM, TEA, TAM and GST; the linear
    layer is initialized from N(0, 0.001) with bias 0. With relations it reduces the features of a
    frame for them, and every frame has the scores that they give its clip.
    """

    def __init__(
        self, features: int, classes: int, *, dropout: float, relations: TRN | None = None
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, classes if relations is None else relations.width)
        nn.init.normal_(self.classifier.weight, 0, 0.001)
        nn.init.zeros_(self.classifier.bias)
        self.relations = relations

    def forward(self, features_ND: torch.Tensor, frames: int) -> torch.Tensor:
        """Scores of each frame (B, T, K) from features (B*T, D)."""
        scores_NK: torch.Tensor = self.classifier(self.dropout(features_ND))
        if self.relations is not None:
            scores_NK = self.relations(scores_NK)
        return torch.unflatten(scores_NK, 0, (-1, frames))


class VideoNetwork(nn.Module):
    """Network from normalized RGB clips (B, T, 3, H, W) to scores (B, K) before softmax.

    A network on snippets (`take_snippets`) has `snippet` neighboring frames next to each other for
    each of the T, and takes clips (B, T * snippet, 3, H, W).

    Args:
        name: Name in reports.
        backbone: Name of the 2D backbone.
        classes: K.
        frames: T of every clip.
        dropout: Dropout rate before the classifier.
        relations: Subsets of the frames for a head of relations (see `TRN`) instead of the mean.

    Attributes:
        channels_last: Converts frames to channels_last memory format, in which temporal modules
            need no permuted copies.
        weights_report: Tensors that the initial weight file filled; None without one.
    """

    def __init__(
        self,
        name: str,
        backbone: str,
        *,
        classes: int,
        frames: int,
        dropout: float = 0.5,
        relations: Subsets | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(classes, frames, dropout)
        adapter = build_backbone(backbone, frames=frames)
        self.facts = replace(adapter, net=nn.Identity())
        self.backbone = adapter.net
        trn = None if relations is None else TRN(classes, frames=frames, subsets=relations)
        self.head = ConsensusHead(adapter.features, classes, dropout=dropout, relations=trn)
        self.name = name
        self.classes = classes
        self.frames = frames
        self.channels_last = True
        self.weights_report: WeightsReport | None = None
        self._dropout = dropout
        self._site_map = SiteMap(adapter)
        self._insertions: list[Insertion] = []

    @property
    def input_mean(self) -> tuple[float, float, float]:
        """Mean of the RGB channels (0..1) that the backbone's published weights expect."""
        return self.facts.mean

    @property
    def input_std(self) -> tuple[float, float, float]:
        """Standard deviation that goes with `input_mean`."""
        return self.facts.std

    @property
    def spec(self) -> NetworkSpec:
        """Description to rebuild this network."""
        return NetworkSpec(
            name=self.name,
            backbone=self.facts.name,
            classes=self.classes,
            frames=self.frames,
            dropout=self._dropout,
            relations=None if self.head.relations is None else self.head.relations.subsets,
            temporal_pool=bool(self.facts.pooled),
            insertions=tuple(self._insertions),
            snippet=self.snippet,
        )

    @property
    def snippet(self) -> int:
        """Frames in place of each of the T; 1 without a short-term branch."""
        return self.backbone.snippet if isinstance(self.backbone, SnippetResNet) else 1

    @property
    def clip_frames(self) -> int:
        """Frames of a clip: T * snippet."""
        return self.frames * self.snippet

    def sites(self) -> tuple[Site, ...]:
        """Sites for temporal modules, from input to output, with the modules in them."""
        return self._site_map.sites()

    def insert(
        self,
        module: str,
        *,
        at: str | Sequence[str] | None = None,
        stages: Sequence[int] | None = None,
        blocks: Blocks = "all",
        **options: Any,
    ) -> "VideoNetwork":
        """Inserts a temporal module at every site of a placement; returns the network.

        Args:
            module: Name of a registered temporal module, such as "tim".
            at: Position inside the blocks, or several, of which the first one in this backbone is
                used; default: the position of the module's paper, or its substitute in blocks of
                two convolutions.
            stages: Stage numbers (2 to 5 are res2 to res5); default: all.
            blocks: "all", "first" of each stage, "even" or "odd" block numbers, "all_or_even"
                (every second block when a stage has 23 or more, as TSM does), a number of blocks
                counted from the output, a list of block numbers, or block numbers by stage.
            **options: Options of the module.

        Raises:
            UnknownNameError: the module, position or option does not exist.
            SiteError: no site matches, or the module is already inserted.

        Example:
            >>> net = VideoNetwork("example", "resnet18", classes=5, frames=8)
            >>> [str(s) for s in net.insert("tim", stages=(5,)).sites() if s.modules]
            ['res5.0 before_conv1', 'res5.1 before_conv1']
        """
        entry, position, sites = self._placed(module, at, stages, blocks, options)
        built = self._site_map.insert(entry, sites, frames=self.frames, options=options)
        options = {**options, **built[0].pinned_options()}
        reached = tuple((site.stage, site.block) for site in sites)
        self._insertions.append(
            Insertion(module, position, reached, tuple(sorted(options.items())))
        )
        return self

    def check_insert(
        self,
        module: str,
        *,
        at: str | Sequence[str] | None = None,
        stages: Sequence[int] | None = None,
        blocks: Blocks = "all",
        **options: Any,
    ) -> None:
        """Raises the error that `insert` would raise with these arguments, without inserting."""
        entry, _, sites = self._placed(module, at, stages, blocks, options)
        self._site_map.check(entry, sites, frames=self.frames, options=options)

    def _placed(
        self,
        module: str,
        at: str | Sequence[str] | None,
        stages: Sequence[int] | None,
        blocks: Blocks,
        options: Mapping[str, Any],
    ) -> tuple[TemporalEntry, Position, list[Site]]:
        """Registered module, position and sites of a placement."""
        entry = temporal_named(module)
        entry.check_options(options)
        wanted = at if at is not None else entry.positions(options)
        names = (wanted,) if isinstance(wanted, str) else wanted
        positions = [position_named(name) for name in names]
        position = next((p for p in positions if self._site_map.offers(p)), positions[0])
        return entry, position, self._site_map.match(position, stages, blocks)

    def pool_frames(self) -> "VideoNetwork":
        """Puts a `TemporalMaxPool` in front of res3, as `temporal_pool` of TSM's code does.

        Comes before temporal modules, because those behind it are built for half the frames.
        Per-frame scores count for two frames then. Returns the network.

        Raises:
            OptionError: the number of frames is odd, the backbone has two frame rates, or the
                network has temporal modules or a pool.
            SiteError: the backbone has no blocks of stage 3 that take one tensor.
        """
        if self.facts.frame_stride != 1:
            raise OptionError(
                f"{self.facts.name} has two frame rates of its own, so it takes no temporal_pool."
            )
        if self.head.relations is not None:
            raise OptionError("A network with relations of all its frames takes no temporal_pool.")
        if self._insertions or self.facts.pooled:
            raise OptionError("Pool the frames once, before temporal modules are inserted.")
        self._check_frames(self.frames, step=STRIDE)
        blocks = self._site_map.pool_frames(TemporalMaxPool(frames=self.frames))
        self.facts = replace(self.facts, pooled=blocks)
        return self

    def take_snippets(self, snippet: int) -> "VideoNetwork":
        """Puts the short-term branch of TDN into stem and res2; see `SnippetResNet`.

        Comes after the weights of the backbone, which both branches start from. Returns the
        network.

        Raises:
            OptionError: the number of frames in a snippet has no center, or the network takes
                snippets already.
            SiteError: the backbone is no ResNet.
        """
        if self.snippet > 1:
            raise OptionError(f"{self.name} already takes snippets of {self.snippet} frames.")
        self.backbone = SnippetResNet(self.backbone, snippet=snippet, frames=self.frames)
        return self

    def set_frames(self, frames: int) -> "VideoNetwork":
        """Sets the number of frames per clip; returns the network.

        Raises:
            OptionError: a weight depends on the number of frames (TAM, TIN, TRN).
        """
        modules = self._frames_by_module(frames)
        for module, frames_here in modules:
            module.check_frames(frames_here)
        for module, frames_here in modules:
            module.set_frames(frames_here)
        return self._with_frames(frames)

    def interpolate_frames(self, frames: int) -> "VideoNetwork":
        """Sets the number of frames, resampling weights that depend on it."""
        for module, frames_here in self._frames_by_module(frames):
            module.interpolate_frames(frames_here)
        return self._with_frames(frames)

    def _with_frames(self, frames: int) -> "VideoNetwork":
        self.frames = frames
        for pool in self._pools():
            pool.frames = frames
        if isinstance(self.backbone, SnippetResNet):
            self.backbone.frames = frames
        return self

    def _pools(self) -> list[TemporalMaxPool]:
        return [module for module in self.backbone.modules() if isinstance(module, TemporalMaxPool)]

    def _frames_by_module(self, frames: int) -> list[tuple[TemporalModule, int]]:
        """Temporal modules with their number of frames for a clip of `frames` frames."""
        _check_sizes(self.classes, frames, self._dropout)
        self._check_frames(frames, step=self.facts.clip_step)
        return [(module, frames // stride) for module, stride in self._frame_strides()]

    def _check_frames(self, frames: int, *, step: int) -> None:
        if frames % step:
            raise OptionError(f"{self.name} needs a multiple of {step} frames, got {frames}.")

    def _frame_strides(self) -> list[tuple[TemporalModule, int]]:
        """Temporal modules, each with the frames of a clip per frame of it."""
        stride_at = self.facts.stride_at
        return [(m, stride_at(n.removeprefix("backbone."))) for n, m in self.temporal_modules()]

    def remove(self, module: str | None = None) -> "VideoNetwork":
        """Removes a temporal module from all sites, or all modules; returns the network.

        Raises:
            SiteError: the network does not have this module.
        """
        if self._site_map.remove(module) == 0:
            present = sorted({insertion.module for insertion in self._insertions})
            raise SiteError(
                f"{self.name} has no temporal module {module or ''!r} to remove. "
                f"It has: {', '.join(present) or 'none'}."
            )
        self._insertions = [i for i in self._insertions if module not in (None, i.module)]
        return self

    def lay_out_weights(self) -> "VideoNetwork":
        """Converts the weights of 2D convolutions to channels_last; returns the network."""
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return self

    def temporal_modules(self) -> list[tuple[str, TemporalModule]]:
        """Inserted modules with their names in the state dict."""
        return outermost(self)

    def inserted(self) -> list[tuple[Site, TemporalModule]]:
        """Inserted modules with their sites, from input to output."""
        return self._site_map.inserted()

    def cost(self, size: int = 224) -> Cost:
        """Counts parameters and multiply-accumulates for a clip of `size` x `size` pixels."""
        at_site = {id(module): str(site) for site, module in self.inserted()}
        places = {name: at_site.get(id(module), "") for name, module in self.temporal_modules()}
        return count_cost(
            self, frames=self.frames, snippet=self.snippet, size_px=size, places=places
        )

    @property
    def reach(self) -> Reach:
        """Temporal receptive field, and whether weights depend on T."""
        return count_reach([*self._frame_strides(), *((pool, 1) for pool in self._pools())])

    def forward(self, clips_BTCHW: torch.Tensor) -> torch.Tensor:
        """Scores clips.

        Args:
            clips_BTCHW: (B, T, 3, H, W), float, normalized; (B, T * snippet, 3, H, W) for a network
                on snippets.

        Returns:
            (B, K) scores before softmax.

        Raises:
            InputShapeError: the tensor has another shape, type, or number of frames.
        """
        self._check_clips(clips_BTCHW)
        return self._frame_scores(clips_BTCHW).mean(dim=1)

    def _way_to(self, frames: int) -> str:
        if self.head.relations is None and any(
            module.frames_in_weights for _, module in self.temporal_modules()
        ):
            return f"convert the checkpoint with `kinema import --frames {frames}`"
        return f"build the network with frames={frames}"

    def frame_scores(self, clips_BTCHW: torch.Tensor) -> torch.Tensor:
        """Scores of every frame before the consensus: (B, T, 3, H, W) -> (B, T, K).

        A network on snippets takes (B, T * snippet, 3, H, W) and gives the scores of each snippet.
        T may differ from the network's number of frames unless a weight depends on it.

        Raises:
            InputShapeError: the tensor has another shape or type.
            OptionError: T differs and a weight depends on the number of frames.
        """
        self._check_input(clips_BTCHW)
        own, frames = self.frames, self._frames_of(clips_BTCHW)
        if frames == own:
            return self._frame_scores(clips_BTCHW)
        self.set_frames(frames)
        try:
            return self._frame_scores(clips_BTCHW)
        finally:
            self.set_frames(own)

    def features(self, clips_BTCHW: torch.Tensor) -> torch.Tensor:
        """Features of every frame before the classifier: (B, T, 3, H, W) -> (B, T, D).

        The classifier applied to their mean over T gives the scores of `forward` in eval mode.

        Raises:
            InputShapeError: the tensor has another shape, type, or number of frames.
        """
        self._check_clips(clips_BTCHW)
        features_ND = self._pooled_features(clips_BTCHW)
        return self._of_every_frame(torch.unflatten(features_ND, 0, (len(clips_BTCHW), -1)))

    def streaming(self, batch: int = 1) -> StreamingNetwork:
        """Returns the network as a step for `batch` streams; see `StreamingNetwork`.

        Raises:
            OptionError: the network looks ahead, drops frames, or is in training mode.
        """
        return StreamingNetwork(self, batch=batch)

    def _frame_scores(self, clips_BTCHW: torch.Tensor) -> torch.Tensor:
        frames = self.frames // STRIDE if self.facts.pooled else self.frames
        return self._of_every_frame(self.head(self._pooled_features(clips_BTCHW), frames))

    def _pooled_features(self, clips_BTCHW: torch.Tensor) -> torch.Tensor:
        """Output of the backbone, one row for every frame or, with `pool_frames`, for two."""
        x_NCHW = clips_BTCHW.flatten(0, 1)
        if self.snippet > 1:  # the frames of a snippet next to each other along the channels
            x_NCHW = torch.unflatten(x_NCHW, 0, (-1, self.snippet)).flatten(1, 2)
        if self.channels_last:
            x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
        features_ND: torch.Tensor = self.backbone(x_NCHW)
        return features_ND

    def _of_every_frame(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.repeat_interleave(STRIDE, 1) if self.facts.pooled else rows

    def _check_clips(self, clips_BTCHW: torch.Tensor) -> None:
        self._check_input(clips_BTCHW)
        frames = self._frames_of(clips_BTCHW)
        if frames != self.frames:
            of = f" snippets of {self.snippet}" if self.snippet > 1 else ""
            raise InputShapeError(
                f"{self.name} was built for clips of {self.frames}{of} frames, got {frames} "
                f"(shape {tuple(clips_BTCHW.shape)}). Sample {self.frames}{of} frames, or "
                f"{self._way_to(frames)}."
            )

    def _check_input(self, clips: torch.Tensor) -> None:
        if clips.ndim != 5 or clips.shape[2] != 3:
            raise InputShapeError(
                f"{self.name} expects clips of shape (B, {self.clip_frames}, 3, H, W), "
                f"got {tuple(clips.shape)}."
            )
        if clips.shape[1] % self.snippet:
            raise InputShapeError(
                f"{self.name} takes {self.snippet} neighboring frames for each of its "
                f"{self.frames}, {self.clip_frames} in all, got {clips.shape[1]} (shape "
                f"{tuple(clips.shape)})."
            )
        check_floating(self.name, "clips", clips)

    def _frames_of(self, clips: torch.Tensor) -> int:
        """T of these clips."""
        return clips.shape[1] // self.snippet


def _check_sizes(classes: int, frames: int, dropout: float) -> None:
    check_range(at_least=1, classes=classes, frames=frames)
    if not 0 <= dropout < 1:
        raise OptionError(f"dropout must be in [0, 1), got {dropout}.")
