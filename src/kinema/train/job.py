"""Builds everything a run needs from its recipe, before the loop starts."""

import logging
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from kinema.data.annotations import read_annotations
from kinema.data.check import doubt_about
from kinema.data.dataset import TrainClips, VideoDataset
from kinema.data.loader import TrainLoader
from kinema.data.transforms import TrainTransform
from kinema.errors import AnnotationError, OptionError, missing_extra
from kinema.models.activation_checkpointing import checkpoint_blocks
from kinema.models.network import VideoNetwork
from kinema.models.published.folder import weights_folder
from kinema.models.transfer import check_same_input
from kinema.models.zoo import create_model
from kinema.system.compiler_cache import check_cpp_compiler, keep_compilers_private
from kinema.system.machine import find_device
from kinema.system.process import keep_freed_memory
from kinema.train.batches import ClipLoss, Mixing, build_loss, build_mixing
from kinema.train.checkpoint import Position, TrainState, load_state
from kinema.train.optim import (
    build_ema,
    build_optimizer,
    build_schedule,
    effective_lr,
    frozen_norm_layers,
)
from kinema.train.recipe import Recipe
from kinema.train.run_folder import (
    RunFolder,
    cut_metrics,
    how_to_continue,
    initial_weights,
    open_folder,
)
from kinema.train.settings import DataSettings, ModelSettings, TrainSettings
from kinema.values import Preprocessing

try:
    from lightning.fabric import Fabric
except ModuleNotFoundError as error:
    raise missing_extra("Training", error.name, "train") from error

log = logging.getLogger(__name__)

# Devices with fused optimizers in PyTorch whose speed we have measured.
FUSED_ON = ("cpu", "cuda")


def start_fabric(settings: TrainSettings) -> Fabric:
    """Starts the processes of a run; with several devices every process returns from here.

    Under torchrun the processes exist and their number counts. Otherwise Fabric starts the
    running command again for each further device.

    Raises:
        OptionError: the batch size is not divisible by processes times accumulation steps, or the
            device does not exist.
    """
    if settings.accelerator != "auto":
        try:
            find_device(settings.accelerator)
        except OptionError as error:
            raise OptionError(f"train.accelerator = {settings.accelerator!r}: {error}") from error
    under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            devices=int(os.environ["LOCAL_WORLD_SIZE"]) if under_torchrun else settings.devices,
            num_nodes=int(os.environ["GROUP_WORLD_SIZE"]) if under_torchrun else 1,
            strategy=settings.strategy,
            precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
        )
    except (RuntimeError, ValueError) as error:
        raise OptionError(
            f"train.accelerator = {settings.accelerator!r} with train.devices = "
            f"{settings.devices!r} is not available: {error}"
        ) from error
    parts = fabric.world_size * settings.accumulate
    if settings.batch_size % parts:
        raise OptionError(
            f"train.batch_size ({settings.batch_size}) must be a multiple of processes x "
            f"train.accumulate ({fabric.world_size} x {settings.accumulate})."
        )
    fabric.launch()
    if fabric.device.type == "cpu":
        keep_freed_memory()
    return fabric


@dataclass
class Job:
    """Objects that the training loop uses.

    Attributes:
        recipe: The settings.
        fabric: Handles precision, devices and processes.
        run: The run folder.
        state: The unwrapped network, its optimizer, schedule and average.
        model: The network wrapped by Fabric.
        optimizer: The optimizer wrapped by Fabric.
        loader: Training batches of this process.
        val: Validation videos.
        mixing: Mixup or CutMix, if any.
        loss: Mean loss of a batch.
        frozen: Norm layers kept in eval mode.
        position: Progress of the run.
        held: Lock of the run folder; to be closed at the end of the training.
    """

    recipe: Recipe
    fabric: Fabric
    run: RunFolder
    state: TrainState
    model: Any  # the class that Fabric wraps around a network is private
    optimizer: Optimizer
    loader: TrainLoader
    val: VideoDataset
    mixing: Mixing | None
    loss: ClipLoss
    frozen: list[nn.Module]
    position: Position
    held: ExitStack

    @property
    def is_first(self) -> bool:
        """True in the process that writes files and validates."""
        return bool(self.fabric.is_global_zero)

    @property
    def network(self) -> VideoNetwork:
        """The network to evaluate and save: the averaged one if there is an average."""
        ema = self.state.ema
        return self.state.net if ema is None else cast(VideoNetwork, ema.module)

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of training and validation clips."""
        return self.val.preprocessing

    @property
    def class_names(self) -> tuple[str, ...]:
        """The K class names."""
        return self.val.annotations.class_names

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return len(self.loader) // self.recipe.train.accumulate

    @property
    def parts_per_epoch(self) -> int:
        """Batches of this process per epoch, without an incomplete last step."""
        return self.steps_per_epoch * self.recipe.train.accumulate

    @property
    def lr(self) -> float:
        """Current learning rate of the backbone's weights."""
        return float(self.state.optimizer.param_groups[0]["lr"])


def build_job(recipe: Recipe, *, out: Path, resume: bool) -> Job:
    """Builds a new run or, with `resume`, restores an interrupted one.

    Raises:
        KinemaError: a setting does not fit the data, the network or the run folder.
    """
    settings = recipe.train
    fabric = start_fabric(settings)
    # The default folder contains the time, which may differ between the processes.
    run = RunFolder(Path(fabric.broadcast(str(out))))
    # A run that was stopped before its first checkpoint has no state: it starts again.
    resumes = resume and run.state.is_file()
    # Initial weights depend on the seed only, not on earlier random numbers of the process.
    torch.manual_seed(settings.seed)
    train_videos, val_videos = _read_videos(recipe.data)
    classes = len(train_videos.annotations.class_names)
    net = build_network(recipe.model, classes=classes, load_weights=not resumes)
    if resumes:
        net.weights_report = initial_weights(run)
    # Before Fabric and the optimizer get the weights, whose memory layout their gradients follow.
    net.channels_last = settings.channels_last
    if settings.channels_last:
        net.lay_out_weights()
    preprocessing = recipe.preprocessing.build(
        frames=recipe.model.frames,
        mean=net.input_mean,
        std=net.input_std,
        snippet=net.snippet,
    )
    if recipe.model.weights is not None and not resumes:
        check_same_input(weights_folder(recipe.model.weights, net.name), preprocessing)
    loader = _build_loader(recipe, train_videos.with_preprocessing(preprocessing), fabric)
    # Freezing comes before the optimizer too, which takes trainable parameters only.
    frozen = frozen_norm_layers(net) if settings.norm_layers != "train" else []
    state = _build_state(recipe, net, fabric, parts_per_epoch=len(loader))
    model, optimizer = fabric.setup(_runnable(net, settings, fabric.device), state.optimizer)
    if state.ema is not None:
        state.ema.module.to(fabric.device)
    with ExitStack() as stack:
        # The folder is touched last, so that a wrong setting leaves none behind.
        if fabric.is_global_zero:
            stack.enter_context(open_folder(run, recipe, net.weights_report, resume=resume))
            if net.weights_report is not None and not resumes:
                log.info("Weights: %s", net.weights_report)
        fabric.barrier()
        # Loaded after Fabric has moved the network: the optimizer's state follows its parameters.
        rank, world = fabric.global_rank, fabric.world_size
        position = load_state(run.state, state, rank=rank, world=world) if resumes else Position()
        # Steps after the last checkpoint are repeated and logged again.
        if fabric.is_global_zero:
            cut_metrics(run, lines=position.lines)
            if position.epoch >= settings.epochs:
                fix = how_to_continue(run, recipe)
                log.info("The run is finished, after epoch %d. %s", position.epoch, fix)
        return Job(
            recipe=recipe,
            fabric=fabric,
            run=run,
            state=state,
            model=model,
            optimizer=optimizer,
            loader=loader,
            val=val_videos.with_preprocessing(preprocessing),
            mixing=build_mixing(settings, classes=net.classes),
            loss=build_loss(settings, train_videos.annotations, classes=net.classes),
            frozen=frozen,
            position=position,
            held=stack.pop_all(),
        )


def build_network(settings: ModelSettings, *, classes: int, load_weights: bool) -> VideoNetwork:
    """Builds the network of a recipe, with its weight file if `load_weights`."""
    return create_model(
        settings.name or settings.backbone or "",
        classes=classes,
        frames=settings.frames,
        weights=settings.weights if load_weights else None,
        temporal=None if settings.name or settings.parts else settings.temporal or "tsn",
        parts=settings.parts,
        stages=settings.stages,
        blocks=settings.blocks,
        at=settings.at,
        dropout=settings.dropout,
        causal=settings.causal,
        temporal_pool=settings.temporal_pool,
        **settings.options,
    )


def _runnable(net: VideoNetwork, settings: TrainSettings, device: torch.device) -> nn.Module:
    """Applies activation checkpointing and compilation; the result shares the weights of `net`."""
    if settings.activation_checkpointing:
        checkpoint_blocks(net)
    if not settings.compile:
        return net
    if device.type == "cpu":
        check_cpp_compiler("train.compile")
    keep_compilers_private()
    mode = None if settings.compile is True else settings.compile
    return cast(nn.Module, torch.compile(net, mode=mode))


def _build_state(
    recipe: Recipe, net: VideoNetwork, fabric: Fabric, *, parts_per_epoch: int
) -> TrainState:
    settings = recipe.train
    fused = settings.fused_optimizer
    optimizer = build_optimizer(
        net,
        recipe.optimizer,
        batch_size=settings.batch_size,
        fused=fabric.device.type in FUSED_ON if fused == "auto" else fused,
    )
    schedule = build_schedule(
        optimizer,
        recipe.schedule,
        epochs=settings.epochs,
        steps_per_epoch=parts_per_epoch // settings.accumulate,
        lr=effective_lr(recipe.optimizer, batch_size=settings.batch_size),
    )
    ema = None if settings.ema_decay is None else build_ema(net, settings.ema_decay)
    return TrainState(net=net, optimizer=optimizer, schedule=schedule, ema=ema)


def _build_loader(recipe: Recipe, dataset: VideoDataset, fabric: Fabric) -> TrainLoader:
    settings = recipe.train
    names = dataset.annotations.class_names
    transform = TrainTransform(dataset.preprocessing, recipe.augmentation, names)
    loader = TrainLoader(
        TrainClips(dataset, transform, seed=settings.seed),
        batch_size=settings.batch_size // (fabric.world_size * settings.accumulate),
        seed=settings.seed,
        workers=recipe.data.workers,
        rank=fabric.global_rank,
        world=fabric.world_size,
        unreadable=recipe.data.unreadable,
    )
    if len(loader) < settings.accumulate:
        raise OptionError(
            f"{dataset.annotations.source} has {len(dataset)} videos, fewer than one "
            f"train.batch_size of {settings.batch_size}. Lower it or train.accumulate."
        )
    videos, batch = len(dataset), settings.batch_size
    if videos < batch:
        log.info("%d videos do not fill a batch of %d: some are repeated.", videos, batch)
    elif videos % batch:
        said = "Each epoch drops %d of %d videos, chosen at random, to fill whole batches of %d."
        log.info(said, videos % batch, videos, batch)
    return loader


def _read_videos(settings: DataSettings) -> tuple[VideoDataset, VideoDataset]:
    """Reads training and validation videos, both with the class names of the training file."""

    def read(
        annotations: Path, folder: Path, classes: Path | tuple[str, ...] | None, subset: str
    ) -> VideoDataset:
        rows = read_annotations(
            annotations,
            format=settings.format,
            root=folder,
            classes=classes,
            split=settings.split,
            subset=subset,
        )
        without = [sample.path for sample in rows.samples if sample.label is None]
        if without:
            raise AnnotationError(
                f"{rows.source}: {len(without)} of {len(rows.samples)} videos have no label, such "
                f"as {without[0]}. Training and validation need one for every video."
            )
        return VideoDataset(rows, folder, Preprocessing(), index_cache=settings.index_cache)

    train = read(settings.train, settings.train_folder, settings.classes, "train")
    doubt = doubt_about(train.annotations)
    if doubt and settings.empty_classes == "error":
        raise AnnotationError(
            f"{train.annotations.source}: {doubt}. Check its labels and data.classes, or train "
            "nevertheless with data.empty_classes=allow."
        )
    names = train.annotations.class_names
    return train, read(settings.val, settings.val_folder, names, "test")
