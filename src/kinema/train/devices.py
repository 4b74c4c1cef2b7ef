"""Precision, devices and processes: what Lightning Fabric does for the loop."""

import os

from kinema.errors import MissingExtraError, OptionError
from kinema.machine import find_device
from kinema.memory import keep_freed_memory
from kinema.train.settings import TrainSettings

try:
    from lightning.fabric import Fabric
except ModuleNotFoundError as error:
    raise MissingExtraError(
        f"Training needs {error.name}, which is not installed: "
        'python -m pip install "kinema[train]"'
    ) from error

__all__ = ["Fabric", "part_size", "start_fabric"]


def start_fabric(settings: TrainSettings) -> Fabric:
    """Starts the processes of a run; with several devices each process goes on from here.

    Under torchrun the processes are there already and their number counts. Otherwise the
    command that is running is started once more for every further device.

    Raises:
        OptionError: the batch cannot be divided among processes and parts, or there is no such
            device.
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
            f"{settings.devices!r} cannot be had: {error}"
        ) from error
    _check_batch(settings, world=fabric.world_size)
    fabric.launch()
    if fabric.device.type == "cpu":
        keep_freed_memory()
    return fabric


def part_size(settings: TrainSettings, *, world: int) -> int:
    """Clips that one process works on at once."""
    return settings.batch_size // (world * settings.accumulate)


def _check_batch(settings: TrainSettings, *, world: int) -> None:
    if settings.batch_size % (world * settings.accumulate):
        raise OptionError(
            f"train.batch_size ({settings.batch_size}) must be a multiple of processes x "
            f"train.accumulate ({world} x {settings.accumulate})."
        )
