"""One operator along time against a copy of the same bytes, at the sizes of ResNet-50.

Letters: B clips, T frames, N = B*T, C channels, H, W, K taps.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import typer

from kinema.bench.result import Measurement
from kinema.bench.timing import alternate
from kinema.cli.bench import BatchOption, FramesOption, OutOption, RoundsOption, finish
from kinema.cli.console import JsonOption, notes
from kinema.system.process import keep_freed_memory
from kinema.temporal.kernels.depthwise import depthwise
from kinema.temporal.kernels.dispatch import reference_backend
from kinema.temporal.kernels.dynamic import dynamic
from kinema.temporal.kernels.gate import gate, spatial_mean
from kinema.temporal.kernels.shift import shift

# Channels and side of the residual branches and of the block inputs at 224 pixels.
STAGES = ((64, 56), (256, 56), (128, 28), (512, 28), (256, 14), (1024, 14), (512, 7), (2048, 7))
NOTES = (
    "ratio: time over that of a copy (clone) of the same activation in the same memory format",
    "authors: the same ratio for the operator as the authors' code writes it (NCHW memory)",
)


def measure_operators(
    *,
    batch: int = 4,
    frames: int = 8,
    stages: Sequence[tuple[int, int]] = STAGES,
    precisions: Sequence[str] = ("32", "bf16"),
    rounds: int = 15,
    values_per_run: int = 2**24,
    progress: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Times the operators on channels_last activations, all forms of one size in turns.

    A timed run repeats the operator until it has handled `values_per_run` values: a clock has no
    place in a few microseconds.
    """
    torch.manual_seed(0)
    keep_freed_memory()
    rows = []
    for precision in precisions:
        dtype = torch.float32 if precision == "32" else torch.bfloat16
        for channels, side in stages:
            progress(f"{channels} channels, {side} x {side}, {precision}")
            x_NCHW = torch.randn(batch * frames, channels, side, side).to(dtype)
            repeats = max(1, values_per_run // x_NCHW.numel())
            rows += _rows(x_NCHW, frames, precision, rounds, repeats)
    settings = {"batch": batch, "frames": frames, "rounds": rounds}
    return Measurement("operators", settings, rows, NOTES)


def _rows(
    x_NCHW: torch.Tensor, frames: int, precision: str, rounds: int, repeats: int
) -> list[dict[str, Any]]:
    last = x_NCHW.contiguous(memory_format=torch.channels_last)
    operators = _operators(x_NCHW, frames)
    runs: dict[str, Callable[[], Any]] = {
        "copy": partial(_repeat, torch.clone, last, repeats),
        "copy, authors": partial(_repeat, torch.clone, x_NCHW, repeats),
    }
    for name, operator in operators.items():
        runs[name] = partial(_repeat, operator, last, repeats)
        runs[f"{name}, authors"] = partial(_as_authors, operator, x_NCHW, repeats)
    with torch.inference_mode():
        times = {name: t.seconds for name, t in alternate(runs, rounds=rounds).items()}
    values = repeats * x_NCHW.numel()
    return [
        {
            "operator": name,
            "precision": precision,
            "channels": x_NCHW.shape[1],
            "side_px": x_NCHW.shape[2],
            "ns_per_value": round(1e9 * times[name] / values, 4),
            "ratio": round(times[name] / times["copy"], 2),
            "authors": round(times[f"{name}, authors"] / times["copy, authors"], 2),
        }
        for name in operators
    ]


def _operators(
    x_NCHW: torch.Tensor, frames: int
) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    channels, clips = x_NCHW.shape[1], len(x_NCHW) // frames
    kernel_C1K1 = torch.randn(channels, 1, 3, 1, dtype=x_NCHW.dtype)
    kernels_BC1K = torch.randn(clips, channels, 1, 3, dtype=x_NCHW.dtype)
    gate_NC = torch.rand(len(x_NCHW), channels, dtype=x_NCHW.dtype)
    eighth = channels // 8
    return {
        "shift": lambda x: shift(x, frames, from_next=eighth, from_previous=eighth),
        "depth-wise": lambda x: depthwise(x, kernel_C1K1, frames),
        "dynamic": lambda x: dynamic(x, kernels_BC1K, frames),
        "gate": lambda x: gate(x, gate_NC),
        "mean": spatial_mean,
    }


def _repeat(
    operator: Callable[[torch.Tensor], torch.Tensor], x_NCHW: torch.Tensor, times: int
) -> None:
    for _ in range(times):
        operator(x_NCHW)


def _as_authors(
    operator: Callable[[torch.Tensor], torch.Tensor], x_NCHW: torch.Tensor, times: int
) -> None:
    with reference_backend():
        _repeat(operator, x_NCHW, times)


def main(
    batch: BatchOption = 4,
    frames: FramesOption = 8,
    rounds: RoundsOption = 15,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time the operators along time, against a copy of the same bytes.

    Example: python -m benchmarks.operators --batch 8
    """

    measurement = measure_operators(
        batch=batch, frames=frames, rounds=rounds, progress=notes().print
    )
    finish(measurement, out, as_json=as_json)


if __name__ == "__main__":
    typer.run(main)
