"""Sections of a recipe: name, type, range and default of every training setting.

A section is a frozen pydantic model, or a dataclass that other rooms use too; both reject unknown
keys and wrong types. An optional setting is off unless it is given (TOML has no null).
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from kinema.data.annotations import FORMATS
from kinema.errors import did_you_mean
from kinema.models.placement import Part
from kinema.values import ClipSettings, PositiveInt, Preprocessing, Views

Share = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Triple = tuple[float, float, float]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]


class Section(BaseModel):
    """Base of all sections."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelSettings(Section):
    """[model]: the network to train; arguments of `create_model`.

    Either `name` ("tsm_resnet50") or `backbone` with, optionally, `temporal` or `parts`.

    Attributes:
        name: Named network, such as "tsm_resnet50".
        backbone: 2D network, such as "resnet50", for any temporal module.
        temporal: Temporal module or family to insert, or several, such as "tim+sme"; default: none.
        parts: Instead of `temporal`, a list of modules that each have their own `at`, `stages`,
            `blocks` and `options`, such as `[{module = "tim", at = "before_conv1"},
            {module = "sme", at = "after_conv2"}]`. A part without one of these takes that of
            [model], then the paper's.
        frames: T, frames of one clip.
        weights: "imagenet", the path of a backbone's weight file, "kinetics400" or the name of
            another published network (`kinema models --published`), or the folder (or hf://
            address, or model.safetensors) of the same network trained on other classes, from
            which everything but the classifier is loaded; default: random initialization.
        stages: Stages that get the temporal module, or "efficient"; default: all stages with sites.
        blocks: "all", "first", "even", "odd", a number of blocks counted from the output, block
            numbers, or block numbers by stage; default: the paper's choice.
        at: Position inside the block; default: the paper's.
        dropout: Dropout rate before the classifier.
        causal: Builds a causal network, in which no frame depends on later ones.
        temporal_pool: Halves the frames in front of res3, as an option of TSM's code does.
        options: Options of the temporal module.
    """

    name: str | None = None
    backbone: str | None = None
    temporal: str | None = None
    parts: tuple[Part, ...] | None = None
    frames: PositiveInt = 8
    weights: str | None = None
    stages: tuple[int, ...] | str | None = None
    blocks: str | int | tuple[int, ...] | dict[int, tuple[int, ...]] | None = None
    at: str | None = None
    dropout: Share = 0.5
    causal: bool = False
    temporal_pool: bool = False
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        if (self.name is None) == (self.backbone is None):
            raise ValueError("give either name or backbone (with, optionally, temporal or parts)")
        given = [key for key in ("temporal", "parts") if getattr(self, key) is not None]
        if self.name is not None and given:
            raise ValueError(f"{given[0]} goes with backbone; a name already says which module")
        if len(given) > 1:
            raise ValueError("give either temporal or parts: parts lists all temporal modules")
        if self.parts == ():
            raise ValueError("parts is empty: list a module, or leave it out for a plain backbone")
        return self


class DataSettings(Section):
    """[data]: the annotated videos. Relative paths are relative to the current directory.

    Attributes:
        format: Format of the annotation files; see `kinema.data.annotations`.
        train: Annotation file (or folder, for folder formats) for training.
        val: The same for validation.
        root: Folder that annotated paths are relative to; default: the folder of the annotation
            file, or the class folder itself.
        val_root: The same for `val`, if it differs.
        classes: File with the class names, for formats without them, or the name of a class list
            of the package, such as "something_v2".
        split: Split number, for formats with several splits (HMDB51).
        unreadable: "error" stops at an unreadable video, "skip" skips and counts it.
        empty_classes: "error" stops if the training list has videos of only one class, or most
            classes have none; "allow" trains nevertheless.
        workers: Loader processes; 0 loads in the training process.
        index_cache: File that caches the frame index of every video, which saves time from the
            second epoch on; "" for none; default: a hidden file in the folder of the videos, if
            it is writable, or in the cache folder if others can write there. It does not affect
            results.
    """

    format: str = "csv"
    train: Path
    val: Path
    root: Path | None = None
    val_root: Path | None = None
    classes: Path | None = None
    split: PositiveInt = 1
    unreadable: Literal["error", "skip"] = "error"
    empty_classes: Literal["error", "allow"] = "error"
    workers: Count = 2
    index_cache: str | None = None

    @property
    def train_folder(self) -> Path:
        """Folder that paths of training videos are relative to."""
        return self.root or _folder_of(self.train)

    @property
    def val_folder(self) -> Path:
        """Folder that paths of validation videos are relative to."""
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


@dataclass(frozen=True)
class PreprocessingSettings(ClipSettings):
    """[preprocessing]: sampling and size of clips; stored in every checkpoint.

    Attributes:
        mean: Per RGB channel, for values in 0..1; default: the backbone's.
        std: Standard deviation per RGB channel; default: the backbone's.
    """

    mean: Triple | None = None
    std: Triple | None = None

    def build(self, *, frames: int, mean: Triple, std: Triple, snippet: int = 1) -> Preprocessing:
        """Returns the preprocessing, with the backbone's `mean` and `std` unless they are set."""
        colors = {"mean": self.mean or mean, "std": self.std or std}
        return Preprocessing(**asdict(self) | colors, frames=frames, snippet=snippet)


class OptimizerBase(Section):
    """Settings of both optimizers.

    Attributes:
        lr: Learning rate.
        weight_decay: L2 penalty (SGD) or decoupled decay (AdamW).
        scale_lr_for_batch: Batch size that `lr` refers to: the effective rate is lr *
            train.batch_size / scale_lr_for_batch. Default: no scaling.
        temporal_lr_mult: Learning-rate factor of new weights in temporal modules, which start
            from scratch while the backbone may be pretrained. Weights that `model.weights` fills,
            all of them after a transfer from a trained network, have the backbone's rate.
        classifier_lr_mult: Learning-rate factor of the classifier (5 in TSM and TEA).
        classifier_decay_mult: Weight-decay factor of the classifier.
        decay_norm_and_bias: Applies weight decay to biases and norm weights too.
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
        momentum: Momentum factor.
        nesterov: Nesterov momentum.
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
        betas: Decay rates of the running averages of the gradient and its square.
    """

    name: Literal["adamw"] = "adamw"
    lr: PositiveFloat = 1e-3
    weight_decay: NotNegative = 0.05
    betas: tuple[Share, Share] = (0.9, 0.999)


class ScheduleBase(Section):
    """Settings of all schedules.

    Attributes:
        warmup_epochs: Epochs of linear warmup, stepwise.
    """

    warmup_epochs: NotNegative = 0.0


class MultistepSettings(ScheduleBase):
    """[schedule] name = "multistep": step decay at milestones.

    Attributes:
        milestones: Epochs after which the rate is multiplied by gamma, in ascending order.
        gamma: Decay factor.
    """

    name: Literal["multistep"] = "multistep"
    milestones: tuple[NotNegative, ...]
    gamma: PositiveFloat = 0.1

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must be in ascending order, got {list(self.milestones)}")
        return self


class CosineSettings(ScheduleBase):
    """[schedule] name = "cosine": cosine decay over all epochs.

    Attributes:
        min_lr: Final learning rate.
    """

    name: Literal["cosine"] = "cosine"
    min_lr: NotNegative = 0.0


class ConstantSettings(ScheduleBase):
    """[schedule] name = "constant"."""

    name: Literal["constant"] = "constant"


OptimizerSettings = SGDSettings | AdamWSettings
ScheduleSettings = MultistepSettings | CosineSettings | ConstantSettings


class TrainSettings(Section):
    """[train]: the training loop.

    Attributes:
        epochs: Passes over the training videos.
        batch_size: Clips per optimizer step, over all devices and accumulation steps.
        accumulate: Gradient accumulation steps per batch.
        clip_norm: Maximum gradient norm; default: no clipping.
        label_smoothing: Label smoothing factor.
        class_weights: "balanced" weights the loss inversely to the number of training videos of a
            class, 1 on average; default: equal weights.
        ema_decay: Decay of an exponential moving average of the weights, which is then evaluated
            and saved; default: none.
        mixup_alpha: Parameter of mixup's Beta distribution; default: no mixup.
        cutmix_alpha: The same for CutMix. With both, one of them is drawn for each forward pass.
        norm_layers: "train", or "freeze_all_but_first": freezes weights and statistics of all
            BatchNorm layers except the first (TSN's partial BN) and except new ones in temporal
            modules; in a transfer from a trained network no layer is new.
        precision: "32", or "bf16" for mixed precision.
        channels_last: channels_last memory format for the backbone; faster on most devices.
        compile: Uses torch.compile, or a mode of it (slow first step; pays off on GPUs).
        fused_optimizer: Updates all weights with one kernel; "auto" does so on CPU and CUDA,
            where it is fastest. It rounds differently.
        activation_checkpointing: Recomputes residual blocks in the backward pass: much less
            memory, about a third more computation, identical numbers.
        seed: Random seed.
        accelerator: Device type; "auto" uses the GPU if there is one.
        devices: Number of devices, or "auto" for all. Ignored under torchrun.
        strategy: "ddp" runs one process per device; "auto" does so for several devices.
        keep: Networks to save: of the best epoch, of the last one, or both.
        checkpoint_every_steps: Optimizer steps between mid-epoch checkpoints; default: only at
            the end of an epoch.
        log_every_steps: Optimizer steps between lines of metrics.jsonl.
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
                "compile and activation_checkpointing exclude each other: the compiler "
                "chooses itself what to recompute. Turn one of them off"
            )
        return self


@dataclass(frozen=True)
class EvaluationSettings(Views):
    """[evaluation]: validation during training. The last epoch is always validated.

    Attributes:
        batch_views: Views per forward pass; limits memory without affecting results.
        every_epochs: Epochs between validations.
    """

    crops: Literal[1, 3, 10] = 1
    resize_px: None = field(default=None, init=False)  # no setting of a recipe
    batch_views: PositiveInt = 8
    every_epochs: PositiveInt = 1

    @property
    def views(self) -> Views:
        """Views of each validation video."""
        return Views(
            clips=self.clips,
            crops=self.crops,
            full_resolution=self.full_resolution,
            twice_sample=self.twice_sample,
            uniform_sample=self.uniform_sample,
        )
