"""`kinema timeline`: actions in a long video and their times."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import (
    BackgroundOption,
    CheckpointArgument,
    DeviceOption,
    FastOption,
    JsonOption,
    find_checkpoint,
    notes,
    print_json,
    progress_bar,
    results,
    say_error,
    show_log,
)
from kinema.cli.output import check_new

if TYPE_CHECKING:
    from kinema.timeline import Timeline


WindowOption = Annotated[
    float | None,
    typer.Option(
        help="Window length in seconds; by default that of the training, else 2.5.", min=0
    ),
]
StrideOption = Annotated[
    float | None,
    typer.Option(help="Seconds between window starts; by default half a window.", min=0),
]
StreamOption = Annotated[
    bool, typer.Option("--stream", help="Run a causal network frame by frame, with its memory.")
]
MinLengthOption = Annotated[
    float, typer.Option(help="Minimum length of a segment in seconds.", min=0)
]
SrtOption = Annotated[
    Path | None, typer.Option(help="Write the segments as subtitles to this file.")
]
HtmlOption = Annotated[
    Path | None, typer.Option(help="Write an HTML page with video, curves and segments.")
]
WindowScoresOption = Annotated[
    Path | None, typer.Option(help="Write the scores of all windows to this .npz file.")
]


def timeline(
    checkpoint: CheckpointArgument,
    video: Annotated[Path, typer.Argument(help="A video file of any length.")],
    window: WindowOption = None,
    stride: StrideOption = None,
    stream: StreamOption = False,
    smooth: Annotated[int, typer.Option(help="Windows to average; odd.", min=1)] = 3,
    enter: Annotated[float, typer.Option(help="Probability at which a segment begins.")] = 0.5,
    leave: Annotated[float, typer.Option(help="Probability below which a segment ends.")] = 0.3,
    min_length: MinLengthOption = 0.0,
    background: BackgroundOption = None,
    top: Annotated[int, typer.Option(help="Classes per window in --json.", min=1)] = 5,
    csv: Annotated[Path | None, typer.Option(help="Write the segments to this CSV file.")] = None,
    srt: SrtOption = None,
    html: HtmlOption = None,
    scores: WindowScoresOption = None,
    batch: Annotated[int, typer.Option(help="Windows per forward pass.", min=1)] = 4,
    chunk: Annotated[int, typer.Option(help="Windows to decode ahead.", min=1)] = 16,
    fast: FastOption = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the actions in a long video and their times.

    A damaged video is used up to the damage, with exit code 1. A truncated MP4 has lost its index
    and cannot be read.

    Example: kinema timeline runs/x/best match.mp4 --html match.html
    """
    check_new(scores, "--scores", suffix=".npz")
    for option, file in {"--csv": csv, "--srt": srt, "--html": html}.items():
        check_new(file, option)
    from kinema.recognizer import Recognizer
    from kinema.report import timeline as report
    from kinema.timeline import SegmentRule, TimelineSettings
    from kinema.timeline import timeline as run_timeline
    from kinema.timeline.grid import WINDOW_S

    settings = TimelineSettings(window, stride, stream, batch, chunk)
    rule = SegmentRule(smooth, enter, leave, tuple(background or ()), min_length)
    if fast:
        show_log()  # shows the chosen form
    recognizer = Recognizer.load(find_checkpoint(checkpoint), device=device, fast=fast)
    if window is None and not stream and not recognizer.preprocessing.has_window:
        notes().print(
            f"Windows of {WINDOW_S} s. The network was trained on whole videos: set --window to "
            "their length. Actions shorter than two windows need --smooth 1."
        )
    with progress_bar("windows") as progress:
        found = run_timeline(recognizer, video, settings, rule=rule, progress=progress)
    _print(found, top if as_json else None)
    for out, write in (
        (csv, report.write_segments_csv),
        (srt, report.write_subtitles),
        (html, report.write_timeline_page),
        (scores, report.write_scores),
    ):
        if out is not None:
            write(found, out)
            notes().print(f"wrote {out}")
    if found.error is not None:
        say_error(found.error)
        raise typer.Exit(1)


def _print(found: "Timeline", top: int | None) -> None:
    """Prints the JSON document with the `top` classes of each window, or a table."""
    from kinema.report.timeline import segment_table, timeline_document

    if top is not None:
        print_json(timeline_document(found, top=top))
    elif found.segments:
        results().print(segment_table(found))
    else:
        best = float(found.probs.max()) if found.scores.size else 0.0
        notes().print(
            "No class is probable enough for a segment: the highest probability is "
            f"{100 * best:.0f} %. Try a lower --enter."
        )
