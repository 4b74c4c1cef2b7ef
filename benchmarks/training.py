"""A training step in the plain form against kinema's, one measure after the other.

Letters: B clips, T frames, N = B*T, C channels, H, W.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
import typer
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from kinema.bench.rates import matrix_rate
from kinema.bench.result import Measurement
from kinema.bench.timing import Clock, Timing, alternate
from kinema.cli.bench import (
    BatchOption,
    FramesOption,
    NetworkOption,
    OutOption,
    RoundsOption,
    SizeOption,
    finish,
)
from kinema.cli.console import JsonOption, notes
from kinema.errors import OptionError, did_you_mean
from kinema.models.activation_checkpointing import checkpoint_blocks
from kinema.models.network import VideoNetwork
from kinema.models.zoo import create_model
from kinema.system.process import give_back_freed_memory, keep_freed_memory
from kinema.temporal import TSM
from kinema.temporal.kernels.reference import shift as shift_reference
from kinema.train.batches import network_input
from kinema.train.optim import build_optimizer
from kinema.train.settings import SGDSettings
from kinema.values import Preprocessing

CLASSES = 174


@dataclass(frozen=True)
class TrainingForm:
    """Form of a training step; the defaults are those of a recipe with bf16."""

    channels_last: bool = True
    keep_memory: bool = True
    bf16: bool = True
    fused: bool = True
    compiled: bool = False
    checkpointing: bool = False


PLAIN = "plain"
FORMS: dict[str, TrainingForm] = {
    PLAIN: TrainingForm(channels_last=False, keep_memory=False, bf16=False, fused=False),
    "plain, kept memory": TrainingForm(channels_last=False, bf16=False, fused=False),
    "channels_last": TrainingForm(keep_memory=False, bf16=False, fused=False),
    "+ kept memory": TrainingForm(bf16=False, fused=False),
    "+ bf16": TrainingForm(fused=False),
    "+ fused optimizer": TrainingForm(),
    "+ compile": TrainingForm(compiled=True),
    "+ checkpointing": TrainingForm(checkpointing=True),
}
NOTES = (
    "A step: uint8 clips to normalized ones, forward, cross-entropy, backward, SGD with momentum.",
    "plain: eager, float32, NCHW, the temporal shift by slice assignments as in the authors' code, "
    "freed memory given back after every use as glibc does by default.",
    "Every later form adds one measure to the one before; compile and checkpointing each add to "
    "the fused optimizer.",
    "Kept memory is a setting of the whole process and is changed before every run, so that it "
    "helps the forms that name it and those after them; 'plain, kept memory' tells what it does "
    "for plain. It has no effect on a GPU.",
    "ratio: time over that of plain; ratio_kept: over that of plain with kept memory.",
    "peak_mb: memory taken during the step beyond weights and optimizer state.",
    "matrix_speedup: rate of bf16 matrix products over that of float32 here, which bounds what "
    "bf16 can bring.",
)


def measure_training(
    *,
    model: str = "tsm_resnet18",
    forms: Sequence[str] = tuple(FORMS),
    batch: int = 8,
    frames: int = 8,
    size_px: int = 112,
    rounds: int = 9,
    clock: Clock = time.perf_counter,
    progress: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Times training steps of one network in several forms, in turns, on the GPU if there is one.

    Args:
        model: Name of the network.
        forms: Names from `FORMS`; "plain" is always measured.
        batch: B.
        frames: T.
        size_px: H and W.
        rounds: Timed rounds; the median counts.
        clock: See `alternate`; `time.process_time` with one thread on a busy machine.
        progress: Told what is being done.

    Returns:
        A row per form with milliseconds per step, `ratio` to plain, and memory.

    Raises:
        OptionError: there is no such form, or the network does not exist.
    """
    for name in forms:
        if name not in FORMS:
            raise OptionError(f"Unknown form {name!r}. " + did_you_mean(name, FORMS))
    names = [name for name in FORMS if name == PLAIN or name in forms]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clips_BTCHW = torch.randint(
        256, (batch, frames, 3, size_px, size_px), dtype=torch.uint8, device=device
    )
    steps = {}
    for name in names:
        progress(f"building {name}")
        net = create_model(model, classes=CLASSES, frames=frames).to(device).train()
        steps[name] = _build_step(net, FORMS[name], clips_BTCHW)
    progress("measuring")
    timings = alternate(steps, rounds=rounds, clock=clock, setup=_prepare_memory)
    rows = [_row(name, timings, peak_mb=_peak_mb(steps[name])) for name in names]
    settings = {
        "model": model,
        "batch": batch,
        "frames": frames,
        "size_px": size_px,
        "rounds": rounds,
        "clock": clock.__name__,
        "against": PLAIN,
        "matrix_speedup": _matrix_speedup(device),
    }
    return Measurement("train", settings, rows, NOTES)


def _build_step(
    net: VideoNetwork, form: TrainingForm, clips_BTCHW: torch.Tensor
) -> Callable[[], float]:
    """A function that makes one step and gives back the loss."""
    labels_B = torch.arange(len(clips_BTCHW), device=clips_BTCHW.device) % CLASSES
    net.channels_last = form.channels_last
    if form.channels_last:
        net.lay_out_weights()
    else:
        _shift_as_the_authors(net)
    if form.checkpointing:
        checkpoint_blocks(net)
    optimizer = build_optimizer(net, SGDSettings(), batch_size=len(clips_BTCHW), fused=form.fused)
    run: Callable[[torch.Tensor], torch.Tensor] = torch.compile(net) if form.compiled else net
    autocast = partial(
        torch.autocast, clips_BTCHW.device.type, dtype=torch.bfloat16, enabled=form.bf16
    )
    how = Preprocessing(frames=net.frames, mean=net.input_mean, std=net.input_std)

    def step() -> float:
        prepared_BTCHW = network_input(clips_BTCHW, how, channels_last=form.channels_last)
        with autocast():
            loss = F.cross_entropy(run(prepared_BTCHW), labels_B)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def _shift_as_the_authors(net: VideoNetwork) -> None:
    for _, module in net.temporal_modules():
        if isinstance(module, TSM):
            module.forward = partial(  # type: ignore[method-assign]  # for this measurement only
                shift_reference,
                frames=module.frames,
                from_next=module.from_next,
                from_previous=module.from_previous,
            )


def _prepare_memory(name: str) -> None:
    if FORMS[name].keep_memory:
        keep_freed_memory()
    else:
        give_back_freed_memory()


def _peak_mb(step: Callable[[], float]) -> float:
    """The largest sum of what was taken and given back, in the order of the operators."""
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return round((torch.cuda.max_memory_allocated() - before) / 1e6, 1)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        step()
    events = sorted(watched.events(), key=lambda event: event.time_range.start)
    held = torch.tensor([event.self_cpu_memory_usage for event in events], dtype=torch.float64)
    return round(float(held.cumsum(0).max()) / 1e6, 1)


def _matrix_speedup(device: torch.device) -> float:
    return round(matrix_rate(torch.bfloat16, device) / matrix_rate(torch.float32, device), 2)


def _row(name: str, timings: dict[str, Timing], *, peak_mb: float) -> dict[str, Any]:
    timing, kept = timings[name], timings.get("plain, kept memory")
    return {
        "form": name,
        "ms": round(1e3 * timing.seconds, 1),
        "spread": round(timing.spread, 3),
        "ratio": round(timing.seconds / timings[PLAIN].seconds, 3),
        "ratio_kept": None if kept is None else round(timing.seconds / kept.seconds, 3),
        "peak_mb": peak_mb,
    }


def main(
    network: NetworkOption = "tsm_resnet18",
    form: Annotated[
        list[str] | None,
        typer.Option(help="Form to time, as '+ bf16' (repeatable); all by default."),
    ] = None,
    batch: BatchOption = 8,
    frames: FramesOption = 8,
    size: SizeOption = 112,
    rounds: RoundsOption = 9,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time a training step in fast forms, against the plain one.

    Example: python -m benchmarks.training --network tsm_resnet18 --form '+ bf16'
    """

    measurement = measure_training(
        model=network,
        forms=form or tuple(FORMS),
        batch=batch,
        frames=frames,
        size_px=size,
        rounds=rounds,
        progress=notes().print,
    )
    finish(measurement, out, as_json=as_json)


if __name__ == "__main__":
    typer.run(main)
