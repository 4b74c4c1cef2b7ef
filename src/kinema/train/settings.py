"""The sections of a recipe: names, types, ranges and defaults of every training setting.

A section is a frozen pydantic model that refuses unknown keys and wrong types. An optional setting
is off when it is left out (TOML has no null).
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from kinema.data.annotations import FORMATS
from kinema.errors import did_you_mean
from kinema.values import Preprocessing, SamplingName, Views

Share = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Triple = tuple[float, float, float]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]


class Section(BaseModel):
    """Base of all sections."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelSettings(Section):
    """[model]: what is trained; handed to `create_model`.

    Either `name` ("tsm_resnet50") or `backbone` with, optionally, `temporal`.

    Attributes:
        name: Named network, such as "tsm_resnet50".
        backbone: 2D network, such as "resnet50", for any temporal module.
        temporal: Temporal module or family to put into it; left out: none.
        frames: T, frames of one clip.
        weights: "imagenet", the path of a backbone's weight file, or the folder (or
            model.safetensors) of the same network trained on other classes, of which all but the
            classifier is taken over; left out: random.
        stages: Stages that get the temporal module, or "efficient"; left out: all that have sites.
        blocks: "all", "first", "even", a number of blocks counted from the output, block numbers,
            or block numbers by stage; left out: the paper's.
        at: Position inside the block; left out: that of the module's paper.
        dropout: Rate before the classifier.
        causal: No frame looks ahead.
        options: Options of the temporal module.
    """

    name: str | None = None
    backbone: str | None = None
    temporal: str | None = None
    frames: PositiveInt = 8
    weights: str | None = None
    stages: tuple[int, ...] | str | None = None
    blocks: str | int | tuple[int, ...] | dict[int, tuple[int, ...]] | None = None
    at: str | None = None
    dropout: Share = 0.5
    causal: bool = False
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        if (self.name is None) == (self.backbone is None):
            raise ValueError("give either name or backbone (with, optionally, temporal)")
        if self.name is not None and self.temporal is not None:
            raise ValueError("temporal goes with backbone; a name already says which module")
        return self


class DataSettings(Section):
    """[data]: the annotated videos. Relative paths are relative to the current directory.

    Attributes:
        format: Format of the annotation files, see `kinema.data.annotations`.
        train: Annotation file (or folder, for formats that are folders) for training.
        val: The same for validation.
        root: Folder that the paths in the annotations are relative to; left out: the folder of
            the annotation file, or the class folder itself.
        val_root: The same for `val`, where it differs.
        classes: File with the class names, for formats that do not hold them, or the name of a
            list that comes with kinema, such as "something_v2".
        split: Split number, for formats that hold several (HMDB51).
        unreadable: "error" stops at a video that cannot be read, "skip" leaves it out and counts.
        workers: Processes that load videos; 0 loads in the training process.
        index_cache: File that remembers where the frames of every video are, which saves time
            from the second epoch on; "" for none; left out: a hidden file in the folder of the
            videos, where that can be written. It changes no number.
    """

    format: str = "csv"
    train: Path
    val: Path
    root: Path | None = None
    val_root: Path | None = None
    classes: Path | None = None
    split: PositiveInt = 1
    unreadable: Literal["error", "skip"] = "error"
    workers: Count = 2
    index_cache: str | None = None

    @property
    def train_folder(self) -> Path:
        """Folder that the paths of the training videos are relative to."""
        return self.root or _folder_of(self.train)

    @property
    def val_folder(self) -> Path:
        """The same of the validation videos."""
        return self.val_root or self.root or _folder_of(self.val)

    @model_validator(mode="after")
    def _known_format(self) -> Self:
        if self.format not in FORMATS:
            raise ValueError(
                f"unknown format {self.format!r}. {did_you_mean(self.format, FORMATS)}"
            )
        return self


def _folder_of(annotations: Path) -> Path:
    return annotations if annotations.is_dir() else annotations.parent


class PreprocessingSettings(Section):
    """[preprocessing]: how a video becomes a clip; it is kept in every checkpoint.

    Attributes:
        sampling: "segments" takes a frame from each of T equal parts of the video, "dense" T frames
            evenly from a window of consecutive ones, "shuffled_segments" segments in random order
            (a control that tells whether order matters).
        window_frames: Length of the dense window.
        short_side_px: Frames are resized so that the short side has this length.
        crop_px: Side of the square crop.
        mean: Per RGB channel, for values in 0..1; left out: that of the backbone's pretraining.
        std: The same for the standard deviation.
    """

    sampling: SamplingName = "segments"
    window_frames: PositiveInt = 64
    short_side_px: PositiveInt = 256
    crop_px: PositiveInt = 224
    mean: Triple | None = None
    std: Triple | None = None

    def build(self, *, frames: int, mean: Triple, std: Triple) -> Preprocessing:
        """The full contract, with the backbone's `mean` and `std` where none are set."""
        return Preprocessing(
            frames=frames,
            sampling=self.sampling,
            window_frames=self.window_frames,
            short_side_px=self.short_side_px,
            crop_px=self.crop_px,
            mean=self.mean or mean,
            std=self.std or std,
        )


class OptimizerBase(Section):
    """What both optimizers share.

    Attributes:
        lr: Learning rate.
        weight_decay: L2 penalty (SGD) or decoupled decay (AdamW).
        scale_lr_for_batch: The batch size that `lr` is stated for: the rate in use is
            lr * train.batch_size / scale_lr_for_batch. Left out: `lr` as it is.
        temporal_lr_mult: Factor on the rate of what temporal modules add to the backbone, which
            starts from scratch where the backbone does not.
        classifier_lr_mult: Factor on the rate of the classifier (5 in TSM and TEA).
        classifier_decay_mult: Factor on the weight decay of the classifier.
        decay_norm_and_bias: Whether biases and normalization weights decay too.
    """

    lr: PositiveFloat
    weight_decay: NotNegative
    scale_lr_for_batch: PositiveInt | None = None
    temporal_lr_mult: PositiveFloat = 1.0
    classifier_lr_mult: PositiveFloat = 1.0
    classifier_decay_mult: NotNegative = 1.0
    decay_norm_and_bias: bool = True


class SGDSettings(OptimizerBase):
    """[optimizer] name = "sgd".

    Attributes:
        momentum: Share of the step before that is taken again.
        nesterov: Nesterov's form of momentum.
    """

    name: Literal["sgd"] = "sgd"
    lr: PositiveFloat = 0.01
    weight_decay: NotNegative = 1e-4
    momentum: Share = 0.9
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class AdamWSettings(OptimizerBase):
    """[optimizer] name = "adamw".

    Attributes:
        betas: Decays of the running means of the gradient and of its square.
    """

    name: Literal["adamw"] = "adamw"
    lr: PositiveFloat = 1e-3
    weight_decay: NotNegative = 0.05
    betas: tuple[Share, Share] = (0.9, 0.999)


class ScheduleBase(Section):
    """What all schedules share.

    Attributes:
        warmup_epochs: The rate rises linearly, step by step, for so many epochs.
    """

    warmup_epochs: NotNegative = 0.0


class MultistepSettings(ScheduleBase):
    """[schedule] name = "multistep": the rate falls at each milestone.

    Attributes:
        milestones: Epochs after which it falls, rising.
        gamma: What it is multiplied by.
    """

    name: Literal["multistep"] = "multistep"
    milestones: tuple[NotNegative, ...]
    gamma: PositiveFloat = 0.1

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise, got {list(self.milestones)}")
        return self


class CosineSettings(ScheduleBase):
    """[schedule] name = "cosine": half a cosine over the epochs.

    Attributes:
        min_lr: The rate at its end.
    """

    name: Literal["cosine"] = "cosine"
    min_lr: NotNegative = 0.0


class ConstantSettings(ScheduleBase):
    """[schedule] name = "constant"."""

    name: Literal["constant"] = "constant"


OptimizerSettings = SGDSettings | AdamWSettings
ScheduleSettings = MultistepSettings | CosineSettings | ConstantSettings


class TrainSettings(Section):
    """[train]: the loop.

    Attributes:
        epochs: Passes over the training videos.
        batch_size: Clips per optimizer step, over all devices and all parts.
        accumulate: A batch is worked off in so many parts, whose gradients add up.
        clip_norm: Largest norm of the gradient; left out: no clipping.
        label_smoothing: Share of the target spread over all classes.
        class_weights: "balanced" weighs the loss of a video with the inverse of the number of
            training videos of its class, 1 on average; left out: all videos weigh the same.
        ema_decay: Decay of a moving average of the weights, which is then what is evaluated and
            kept; left out: none.
        mixup_alpha: Parameter of mixup's Beta distribution; left out: no mixup.
        cutmix_alpha: The same for CutMix. With both, one of them is drawn for each part.
        norm_layers: "train", or "freeze_all_but_first": the BatchNorm layers of the backbone keep
            their pretrained weights and statistics except the first (TSN's partial BN).
        precision: "32", or "bf16" for mixed precision.
        channels_last: Memory order of the backbone; faster on most devices.
        compile: Compiles the network (slow first step; pays on a GPU), or a mode of torch.compile.
        fused_optimizer: One kernel updates all weights; "auto" where it is the fastest (CPU and
            CUDA). Sums are rounded in another order than without.
        activation_checkpointing: Residual blocks compute again in the backward pass what they need
            there: much less memory, about a third more computing, the same numbers.
        seed: Start of every random choice.
        accelerator: "auto" takes the GPU where there is one.
        devices: Number of devices, or "auto" for all. Ignored under torchrun.
        strategy: "ddp" gives each device its process; "auto" does so for several devices.
        keep: Which model folders are kept: that of the best epoch, the last one, or both.
        checkpoint_every_steps: Saves the training state so often inside an epoch; left out: only
            at its end.
        log_every_steps: Steps between two lines of metrics.jsonl.
    """

    epochs: PositiveInt = 50
    batch_size: PositiveInt = 64
    accumulate: PositiveInt = 1
    clip_norm: PositiveFloat | None = None
    label_smoothing: Share = 0.0
    class_weights: Literal["balanced"] | None = None
    ema_decay: Share | None = None
    mixup_alpha: PositiveFloat | None = None
    cutmix_alpha: PositiveFloat | None = None
    norm_layers: Literal["train", "freeze_all_but_first"] = "train"
    precision: Literal["32", "bf16"] = "32"
    channels_last: bool = True
    compile: bool | CompileMode = False
    fused_optimizer: bool | Literal["auto"] = "auto"
    activation_checkpointing: bool = False
    seed: Count = 0
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: PositiveInt | Literal["auto"] = 1
    strategy: Literal["auto", "ddp"] = "auto"
    keep: Literal["best", "last", "both"] = "both"
    checkpoint_every_steps: PositiveInt | None = None
    log_every_steps: PositiveInt = 20

    @model_validator(mode="after")
    def _one_decides_what_is_kept(self) -> Self:
        if self.compile and self.activation_checkpointing:
            raise ValueError(
                "compile and activation_checkpointing exclude each other: a compiled network "
                "decides itself what it computes again. Turn one of them off"
            )
        return self


class EvaluationSettings(Section):
    """[evaluation]: the validation during training. The last epoch is always evaluated.

    Attributes:
        clips: Clips over each video.
        crops: Crops of each clip: center, three along the long side, or ten (corners and center,
            each with its mirror image).
        full_resolution: Crops take the whole short side instead of `crop_px`.
        batch_views: Views of one forward pass; it bounds memory and changes no number.
        every_epochs: Epochs from one validation to the next.
    """

    clips: PositiveInt = 1
    crops: Literal[1, 3, 10] = 1
    full_resolution: bool = False
    batch_views: PositiveInt = 8
    every_epochs: PositiveInt = 1

    @property
    def views(self) -> Views:
        """The views of one validation video."""
        return Views(clips=self.clips, crops=self.crops, full_resolution=self.full_resolution)
