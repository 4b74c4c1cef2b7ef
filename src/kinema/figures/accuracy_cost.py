"""Accuracy against cost: multiply-adds and measured time."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.errors import KinemaError, OptionError, UnknownNameError, did_you_mean
from kinema.report.plots import DPI, Figure, legend_below, save_png
from kinema.report.point_labels import Mark, label_points
from kinema.report.sweeps import COLORS, draw_marks, mark_of, result_of

# Settings that the network's name implies, or that do not affect its time.
_IN_THE_NAME = (
    "model.temporal",
    "model.backbone",
    "model.dropout",
    "model.options.keep_features",
    "model.options.opposed",
)
_MARKERS = "os^Dv"


@dataclass(frozen=True)
class CostPoint:
    """Variant of a sweep, with accuracies from 0 to 1 and the cost of one clip."""

    sweep: str
    variant: str
    model: str
    top1: float  # mean over the seeds
    deviation: float | None  # standard deviation over the seeds; None for one seed
    gmacs: float  # multiply-adds in 10**9: the papers' "GFLOPs"
    params: int
    clip_ms: float | None  # None if not measured


@dataclass(frozen=True)
class Times:
    """Times of one form, measured by `kinema bench model`."""

    source: str  # the file
    form: str  # such as "fused-bf16"
    frames: int
    size_px: int
    clip_ms: Mapping[str, float]  # time of one clip by network


def read_times(path: Path, form: str | None = None) -> Times:
    """Reads a measurement of `kinema bench model --out`.

    Raises:
        KinemaError: the file is not a measurement.
        OptionError: it has several forms and none was given, or several batch sizes.
        UnknownNameError: the form was not measured.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        settings, rows = document["settings"], document["rows"]
        frames, size_px = settings["frames"], settings["size_px"]
        # Older files have one batch size for all rows.
        batches = [row["batch"] if "batch" in row else settings["batch"] for row in rows]
        measured = [
            (row["model"], row["form"], float(row["ms"]) / batch)
            for row, batch in zip(rows, batches, strict=True)
        ]
        measured[0]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise KinemaError(
            f"{path} is not a measurement of `kinema bench model --out`: {error!r}."
        ) from error
    forms = list(dict.fromkeys(name for _, name, _ in measured))
    if form is not None and form not in forms:
        raise UnknownNameError(f"{path} has no form {form!r}. {did_you_mean(form, forms)}")
    if form is None:
        if len(forms) > 1:
            raise OptionError(f"{path} has several forms: {', '.join(forms)}. Name one of them.")
        form = forms[0]
    if len(set(batches)) > 1:
        sizes = ", ".join(str(batch) for batch in sorted(set(batches)))
        raise OptionError(f"{path} has several batch sizes: {sizes}. Measure one of them.")
    of_form = {model: ms for model, name, ms in measured if name == form}
    return Times(str(path), form, frames, size_px, of_form)


def cost_points(
    documents: Iterable[dict[str, Any]], *, test: str, times: Times | None = None
) -> list[CostPoint]:
    """Returns the variants of sweeps, as read by `read_summary`, with their accuracy and cost.

    A variant gets a time if its network was measured and is defined by its name alone: a variant
    with options of a module has none.

    Raises:
        UnknownNameError: a sweep does not have the test.
        OptionError: the measurement is of other clips, or of none of the networks.
    """
    points = []
    for document in documents:
        if times is not None:
            _check_clips(document, times)
        for row in document["rows"]:
            result = result_of(document, row, test)
            plain = times is not None and _is_plain(document["variants"][row["variant"]])
            points.append(
                CostPoint(
                    sweep=document["title"],
                    variant=row["variant"],
                    model=row["model"],
                    top1=result["top1"],
                    deviation=result["deviation"],
                    gmacs=row["macs"] / 1e9,
                    params=row["params"],
                    clip_ms=times.clip_ms.get(row["model"]) if times and plain else None,
                )
            )
    if times is not None and all(point.clip_ms is None for point in points):
        models = sorted({point.model for point in points})
        raise OptionError(
            f"{times.source} has times of none of these networks: {', '.join(models)}. It has: "
            f"{', '.join(times.clip_ms)}."
        )
    return points


def draw_accuracy_cost(
    points: Sequence[CostPoint], *, test: str, times: Times | None = None, out: Path | None = None
) -> bytes:
    """Plots top-1 against GMACs and, if measured, against the time of a clip, as PNG data."""
    panels = [([(p.gmacs, p) for p in points], "GFLOPs of one clip (multiply-adds, 10$^9$)")]
    if times is not None:
        form = f"{times.form}, {times.frames} frames at {times.size_px} px"
        timed = [(p.clip_ms, p) for p in points if p.clip_ms is not None]
        panels.append((timed, f"measured time of one clip in ms\n({form})"))
    figure = Figure(figsize=(5.6 * len(panels), 4.3), dpi=DPI, layout="constrained")
    plots = figure.subplots(1, len(panels), squeeze=False)[0]
    for plot, (placed, label) in zip(plots, panels, strict=True):
        _panel(plot, placed)
        plot.set_xlabel(label)
        plot.set_ylabel(f"top-1 in % ({test})", parse_math=False)
    if len({point.sweep for point in points}) > 1:
        legend_below(figure, plots[0].containers)
    else:
        figure.suptitle(points[0].sweep, fontsize=11, parse_math=False)
    for plot, (placed, _) in zip(plots, panels, strict=True):
        label_points(plot, _marks(placed), [point.variant for _, point in placed])
    return save_png(figure, out)


def _panel(plot: Any, placed: Sequence[tuple[float, CostPoint]]) -> None:
    sweeps = list(dict.fromkeys(point.sweep for _, point in placed))
    for number, sweep in enumerate(sweeps):
        mine = _marks([(place, point) for place, point in placed if point.sweep == sweep])
        look = {"color": COLORS[number % len(COLORS)], "label": sweep}
        draw_marks(plot, mine, _MARKERS[number % len(_MARKERS)], **look)
    plot.margins(x=0.15, y=0.12)
    plot.grid(alpha=0.25)
    plot.spines[["top", "right"]].set_visible(False)


def _marks(placed: Sequence[tuple[float, CostPoint]]) -> list[Mark]:
    return [mark_of(place, point.top1, point.deviation) for place, point in placed]


def _is_plain(words: Iterable[str]) -> bool:
    """Checks whether a variant's network is defined by its name alone."""
    keys = [word.partition("=")[0] for word in words]
    return not any(
        key.startswith(("model.", "preprocessing.")) and key not in _IN_THE_NAME for key in keys
    )


def _check_clips(document: dict[str, Any], times: Times) -> None:
    frames = document["recipe"]["model"]["frames"]
    size_px = document["recipe"]["preprocessing"]["crop_px"]
    if (frames, size_px) != (times.frames, times.size_px):
        models = " ".join(dict.fromkeys(row["model"] for row in document["rows"]))
        raise OptionError(
            f"{times.source} was measured with {times.frames} frames at {times.size_px} px, but "
            f"the sweep {document['title']!r} has {frames} at {size_px} px. Measure it: kinema "
            f"bench model {models} --frames {frames} --size {size_px} --out times.json"
        )
