"""Writes a timeline as table, JSON, CSV, subtitles, score file and HTML page.

Letters: M windows, K classes, P points of a curve.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from kinema.report.tables import table_of, write_csv
from kinema.system.files import whole_file, write_whole
from kinema.system.text import visible
from kinema.timeline import Segment, Timeline, smoothed

# Curves with distinguishable colors.
MOST_CURVES = 6
# Points per curve, more than a screen has columns; each keeps the peak of its windows.
MOST_POINTS = 1500


@dataclass(frozen=True)
class Curve:
    """Probability of one class over time, as an SVG path of 1000 x 100."""

    name: str
    number: int
    path: str


def timeline_document(timeline: Timeline, *, top: int) -> dict[str, Any]:
    """JSON form of a timeline with the `top` most probable classes of each window."""
    times = zip(timeline.starts_s.tolist(), timeline.ends_s.tolist(), strict=True)
    windows = [
        {
            "start_s": round(start_s, 3),
            "end_s": round(end_s, 3),
            "top": [c.to_dict(digits=6) for c in timeline.top(window, top)],
        }
        for window, (start_s, end_s) in enumerate(times)
    ]
    return {
        "path": timeline.path,
        "duration_s": round(timeline.duration_s, 3),
        "window_s": round(timeline.window_s, 3),
        "stride_s": round(timeline.stride_s, 3),
        "windows": windows,
        "segments": [_rounded(segment) for segment in timeline.segments],
        "error": timeline.error,
    }


def segment_table(timeline: Timeline) -> Table:
    """Table of the segments for the terminal."""
    table = table_of(">start", ">end", "class", ">probability")
    for segment in timeline.segments:
        prob = f"{100 * segment.prob:.1f} %"
        table.add_row(clock(segment.start_s), clock(segment.end_s), Text(segment.name), prob)
    return table


def write_segments_csv(timeline: Timeline, out: Path) -> None:
    """Writes one row per segment: start_s, end_s, label, name, prob."""
    columns = ("start_s", "end_s", "label", "name", "prob")
    write_csv(out, columns, [_rounded(segment).values() for segment in timeline.segments])


def write_subtitles(timeline: Timeline, out: Path) -> None:
    """Writes the segments as SubRip subtitles."""
    blocks = (
        f"{number}\n{_srt_clock(segment.start_s)} --> {_srt_clock(segment.end_s)}\n"
        f"{visible(segment.name)} ({100 * segment.prob:.0f} %)\n"
        for number, segment in enumerate(timeline.segments, start=1)
    )
    write_whole(out, "\n".join(blocks))


def write_scores(timeline: Timeline, out: Path) -> None:
    """Writes all scores as .npz: starts_s (M,), ends_s (M,), scores (M, K), class_names (K,)."""
    with whole_file(out) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            starts_s=timeline.starts_s,
            ends_s=timeline.ends_s,
            scores=timeline.scores,
            class_names=np.array(timeline.class_names),
        )


def write_timeline_page(timeline: Timeline, out: Path) -> Path:
    """Writes a page that plays the video next to its curves and segments.

    The page is self-contained except for the video, which it links by a relative path.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    from kinema.report import html_page  # needs an extra

    curves, video = draw_curves(timeline), Path(timeline.path)
    values = {
        "timeline": timeline,
        "title": os.fsencode(video.name).decode("utf-8", "replace"),
        # Relative to the folder of the page.
        "video": quote(os.fsencode(os.path.relpath(video.resolve(), out.parent.resolve()))),
        "duration": clock(timeline.duration_s),
        "curves": curves,
        "bars": _bars(timeline, {curve.name: curve.number for curve in curves}),
    }
    return html_page.write_page("timeline.html", values, out)


def draw_curves(timeline: Timeline) -> list[Curve]:
    """Draws curves of the classes with the longest segments, then of the most probable ones."""
    probs_MK = smoothed(timeline.probs, 3)
    rank_K = probs_MK.mean(0).astype(np.float64)
    for segment in timeline.segments:
        rank_K[segment.label] += 1 + segment.end_s - segment.start_s
    best = np.argsort(-rank_K, kind="stable")[:MOST_CURVES].tolist()
    x_M = (timeline.starts_s + timeline.ends_s) * (500 / timeline.duration_s)
    return [
        Curve(timeline.class_names[label], number, _path(x_M, probs_MK[:, label]))
        for number, label in enumerate(best)
    ]


def clock(time_s: float) -> str:
    """Such as 0:07.5 or 1:02:03.0."""
    minutes, tenths = divmod(round(time_s * 10), 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{tenths / 10:04.1f}"
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}"


def _srt_clock(time_s: float) -> str:
    """Such as 01:02:03,004."""
    minutes, thousandths = divmod(round(time_s * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{thousandths / 1000:06.3f}".replace(".", ",")


def _rounded(segment: Segment) -> dict[str, Any]:
    return {
        **asdict(segment),
        "start_s": round(segment.start_s, 3),
        "end_s": round(segment.end_s, 3),
        "prob": round(segment.prob, 6),
    }


def _path(x_M: NDArray[np.float64], probs_M: NDArray[np.float32]) -> str:
    """SVG line through the windows, or through the peaks of groups if there are too many."""
    groups = np.array_split(np.arange(len(x_M)), min(len(x_M), MOST_POINTS))
    x_P = np.array([x_M[group].mean() for group in groups])
    y_P = np.array([100 * (1 - probs_M[group].max()) for group in groups])
    x_P, y_P = np.array([0.0, *x_P, 1000.0]), np.array([y_P[0], *y_P, y_P[-1]])
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(x_P, y_P, strict=True))


def _bars(timeline: Timeline, numbers: dict[str, int]) -> list[dict[str, Any]]:
    """Segments on the page: position in percent of the duration, and number of their color."""
    share = 100 / timeline.duration_s
    return [
        {
            "segment": segment,
            "left": segment.start_s * share,
            "width": (segment.end_s - segment.start_s) * share,
            "number": numbers.get(segment.name),
            "start": clock(segment.start_s),
            "end": clock(segment.end_s),
        }
        for segment in timeline.segments
    ]
