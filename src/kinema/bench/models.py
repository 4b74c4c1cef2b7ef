"""Benchmark of networks against the plain backbone, and of fast forms against the authors' form.

Letters: B clips, T frames, H, W.
"""

import gc
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from kinema.bench.forms import build_form, prepare_memory
from kinema.bench.rates import copy_rate, matrix_rate
from kinema.bench.result import Measurement
from kinema.bench.timing import Timing, alternate
from kinema.errors import OptionError, check_range, did_you_mean
from kinema.models.network import NORMS, VideoNetwork
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
# TEINet's latency, and its throughput and the time per video of TEA.
TEST_BATCHES = (1, 16)
NOTES = (
    "ms: time of one forward pass of the batch, with the clips in memory; videos_per_s: clips per "
    "second of it, one view per video",
    "ratio: time over that of the plain backbone (tsn) in the same form",
    "speedup: time of the same network in the authors' form (eager, float32, NCHW, operators "
    "along time as their code writes them, freed memory given back as by default) over this time",
    "rate: share of the machine's measured rate of matrix products in this precision",
)


def measure_models(
    names: Sequence[str] = NETWORKS,
    *,
    forms: Sequence[str] = DEFAULT_FORMS,
    batches: Sequence[int] = (4,),
    frames: int = 8,
    size: int = 224,
    rounds: int = 9,
    difference_from: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Times every network in every form, alternating in this process, without loading of data.

    Args:
        names: Networks.
        forms: Forms; see `kinema.bench.forms.FORMS`.
        batches: Clips of one forward pass: 1 is TEINet's latency, 16 its throughput and the time
            per video of TEA.
        frames: T.
        size: H and W in pixels.
        rounds: Times that every form is timed; the median counts.
        difference_from: One of the networks, such as TEA; the rows then have the time per video by
            which it exceeds every network, such as TEA - ME (TEA's supplement, section 4).
        progress: Called with messages.

    Raises:
        KinemaError: a network or a form does not exist, or its runtime is not installed.
        OptionError: a batch is below 1, or `difference_from` is not one of the networks.
    """
    for batch in batches:
        check_range(at_least=1, batch=batch)
    if difference_from not in (None, *names):
        raise OptionError(
            f"difference_from {difference_from!r} is not measured. "
            + did_you_mean(str(difference_from), names)
        )
    torch.manual_seed(0)
    runs: dict[str, Callable[[], Any]] = {}
    macs, plain = {}, {}
    for name in names:
        net = _network(name, frames)
        clips = {b: torch.randn(b, net.clip_frames, 3, size, size) for b in batches}
        macs[name], plain[name] = net.cost(size).macs, f"tsn_{net.facts.name}"
        for form, batch in itertools.product(forms, batches):
            progress(f"building {name} {form}")
            run = build_form(form, net, clips[batch])
            runs[f"{name} {form} {batch}"] = partial(run, clips[batch])
        gc.collect()
    progress("measuring")
    timings = alternate(runs, rounds=rounds, setup=lambda name: prepare_memory(name.split(" ")[1]))
    rates = {"32": matrix_rate(torch.float32), "bf16": matrix_rate(torch.bfloat16)}
    rows = []
    for form, batch, name in itertools.product(forms, batches, names):
        row = _row(
            timings[f"{name} {form} {batch}"],
            plain=timings.get(f"{plain[name]} {form} {batch}"),
            authors=timings.get(f"{name} authors {batch}"),
            batch=batch,
            macs=macs[name],
            rate=rates.get("32" if form == "authors" else form.rpartition("-")[2]),
        )
        if difference_from is not None:
            more = timings[f"{difference_from} {form} {batch}"].seconds
            less = timings[f"{name} {form} {batch}"].seconds
            row["difference_ms"] = round(1e3 * (more - less) / batch, 3)
        rows.append({"model": name, "form": form, "batch": batch, **row})
    settings = {
        "frames": frames,
        "size_px": size,
        "rounds": rounds,
        "matrix_gmacs_per_s": {kind: round(rate / 1e9, 1) for kind, rate in rates.items()},
        "copy_gb_per_s": round(copy_rate() / 1e9, 1),
        "backend": backend_name("cpu"),
    }
    notes: tuple[str, ...] = NOTES
    if difference_from is not None:
        notes += (f"difference_ms: time per video of {difference_from} minus that of the network",)
    return Measurement("model", settings, rows, notes)


def time_network(
    net: VideoNetwork,
    size: int,
    *,
    views: int = 1,
    batches: Sequence[int] = TEST_BATCHES,
    rounds: int = 5,
) -> list[dict[str, Any]]:
    """Times forward passes of one network in eager float32, without loading of data.

    Args:
        net: The network, on its device.
        size: H and W in pixels.
        views: Views per video, clips times crops.
        batches: Views of one forward pass.
        rounds: Timed passes; the median counts.

    Returns:
        For each batch: batch, ms of one pass, and videos_per_s, the videos of `views` views.
    """
    device = next(net.parameters()).device
    clips = {b: torch.randn(b, net.clip_frames, 3, size, size, device=device) for b in batches}
    with torch.inference_mode():
        runs = {str(b): partial(net.eval(), clips[b]) for b in batches}
        timings = alternate(runs, rounds=rounds)
    return [
        {
            "batch": batch,
            "ms": round(1e3 * timings[str(batch)].seconds, 1),
            "videos_per_s": round(batch / views / timings[str(batch)].seconds, 3),
        }
        for batch in batches
    ]


def _network(name: str, frames: int) -> VideoNetwork:
    """Builds a network with random weights in which no norm has scale zero."""
    net = create_model(name, classes=174, frames=frames)
    for module in net.modules():
        if isinstance(module, NORMS) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.25, 0.5)
    return net.eval()


def _row(
    timing: Timing,
    *,
    plain: Timing | None,
    authors: Timing | None,
    batch: int,
    macs: int,
    rate: float | None,
) -> dict[str, Any]:
    seconds = timing.seconds
    return {
        "ms": round(1e3 * seconds, 1),
        "videos_per_s": round(batch / seconds, 2),
        "spread": round(timing.spread, 3),
        "ratio": None if plain is None else round(seconds / plain.seconds, 3),
        "speedup": None if authors is None else round(authors.seconds / seconds, 2),
        "rate": None if rate is None else round(batch * macs / seconds / rate, 3),
    }
