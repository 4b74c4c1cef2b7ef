"""Benchmark of networks against the plain backbone, and of fast forms against the authors' form.

Letters: B clips, T frames, H, W.
"""

import gc
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from kinema.bench.forms import build_form, prepare_memory
from kinema.bench.rates import copy_rate, matrix_rate
from kinema.bench.result import Measurement
from kinema.bench.timing import Timing, alternate
from kinema.inference.fold import NORMS
from kinema.models.network import VideoNetwork
from kinema.models.zoo import create_model
from kinema.temporal.kernels.dispatch import backend_name

NETWORKS = (
    "tsn_resnet50",
    "tsm_resnet50",
    "tim_resnet50",
    "tei_resnet50",
    "tanet_resnet50",
    "me_tim_resnet50",
    "gte_resnet50",
    "cti_resnet50",
    "tsi_resnet50",
    "tsn_res2net50_26w_4s",
    "tea_res2net50_26w_4s",
)
DEFAULT_FORMS = ("authors", "eager-32", "fused-32", "fused-bf16")
NOTES = (
    "ratio: time over that of the plain backbone (tsn) in the same form",
    "speedup: time of the same network in the authors' form (eager, float32, NCHW, operators "
    "along time as their code writes them, freed memory given back as by default) over this time",
    "rate: share of the machine's measured rate of matrix products in this precision",
)


def measure_models(
    names: Sequence[str] = NETWORKS,
    *,
    forms: Sequence[str] = DEFAULT_FORMS,
    batch: int = 4,
    frames: int = 8,
    size: int = 224,
    rounds: int = 9,
    progress: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Times every network in every form, alternating in this process.

    Raises:
        KinemaError: a network or a form does not exist, or its runtime is not installed.
    """
    torch.manual_seed(0)
    clips = torch.randn(batch, frames, 3, size, size)
    runs: dict[str, Callable[[], Any]] = {}
    macs, plain = {}, {}
    for name in names:
        net = _network(name, frames)
        macs[name], plain[name] = batch * net.cost(size).macs, f"tsn_{net.facts.name}"
        for form in forms:
            progress(f"building {name} {form}")
            runs[f"{name} {form}"] = partial(build_form(form, net, clips), clips)
        gc.collect()
    progress("measuring")
    timings = alternate(runs, rounds=rounds, setup=lambda name: prepare_memory(name.split(" ")[1]))
    rates = {"32": matrix_rate(torch.float32), "bf16": matrix_rate(torch.bfloat16)}
    rows = []
    for form in forms:
        rate = rates.get("32" if form == "authors" else form.rpartition("-")[2])
        rows += [
            _row(name, form, timings, plain=plain[name], macs=macs[name], rate=rate)
            for name in names
        ]
    settings = {
        "batch": batch,
        "frames": frames,
        "size_px": size,
        "rounds": rounds,
        "matrix_gmacs_per_s": {kind: round(rate / 1e9, 1) for kind, rate in rates.items()},
        "copy_gb_per_s": round(copy_rate() / 1e9, 1),
        "backend": backend_name("cpu"),
    }
    return Measurement("model", settings, rows, NOTES)


def _network(name: str, frames: int) -> VideoNetwork:
    """Builds a network with random weights in which no norm has scale zero."""
    net = create_model(name, classes=174, frames=frames)
    for module in net.modules():
        if isinstance(module, NORMS) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.25, 0.5)
    return net.eval()


def _row(
    model: str, form: str, timings: dict[str, Timing], *, plain: str, macs: int, rate: float | None
) -> dict[str, Any]:
    seconds = timings[f"{model} {form}"].seconds
    base, authors = timings.get(f"{plain} {form}"), timings.get(f"{model} authors")
    return {
        "model": model,
        "form": form,
        "ms": round(1e3 * seconds, 1),
        "spread": round(timings[f"{model} {form}"].spread, 3),
        "ratio": None if base is None else round(seconds / base.seconds, 3),
        "speedup": None if authors is None else round(authors.seconds / seconds, 2),
        "rate": None if rate is None else round(macs / seconds / rate, 3),
    }
