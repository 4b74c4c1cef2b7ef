"""`kinema stream`: recognizes a video, camera or network address frame by frame."""

import json
import math
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kinema.cli.console import (
    BackgroundOption,
    DeviceOption,
    FastOption,
    find_checkpoint,
    notes,
    show_log,
)
from kinema.cli.output import check_new

if TYPE_CHECKING:
    from kinema.live.overlay import Canvas
    from kinema.live.result import FrameResult
    from kinema.live.smoothing import Smoothing
    from kinema.live.sources import RawFormat
    from kinema.live.stream import LiveRecognition


CausalCheckpointArgument = Annotated[
    Path,
    typer.Argument(
        help="Checkpoint folder of a causal network, such as runs/x/best, or published network, "
        "such as tsm_mobilenetv2_100:jester-online."
    ),
]
SourceArgument = Annotated[
    str,
    typer.Argument(
        help="Video file, camera number, rtsp:// or http:// address, or - for raw frames on stdin."
    ),
]
PaceOption = Annotated[
    Literal["source", "full"] | None,
    typer.Option(help="source: real time; full: as fast as possible, the default for files."),
]
EveryOption = Annotated[
    int | None,
    typer.Option(help="Use every n-th frame; by default the spacing of the training.", min=1),
]
FpsOption = Annotated[
    float | None,
    typer.Option(help="Frames per second to use, instead of --every."),
]
SmoothOption = Annotated[
    str,
    typer.Option(
        help="Running mean of probabilities: window:FRAMES, exponential:WEIGHT_OF_NEWEST or none."
    ),
]
PatienceOption = Annotated[
    int, typer.Option(help="Consecutive frames before a class is shown.", min=1)
]
DropOption = Annotated[
    Literal["oldest", "newest", "never"] | None,
    typer.Option(
        help="Frames to drop when the network is too slow: oldest, so that the newest one waits "
        "(default at pace source); newest; or never (default at pace full)."
    ),
]
LimitOption = Annotated[
    str | None, typer.Option(help="Stop after a number of frames (300) or seconds (20s).")
]
RawOption = Annotated[
    str | None, typer.Option(help="Size and rate of raw RGB frames on stdin, such as 640x480@25.")
]
WriteOption = Annotated[Path | None, typer.Option(help="Write a captioned video to this file.")]
ShowOption = Annotated[
    bool,
    typer.Option("--show", help="Show the captioned frames in a window (needs OpenCV)."),
]
BackOffOption = Annotated[
    float,
    typer.Option(
        help="Seconds before the first attempt to reconnect, doubled for each further one."
    ),
]
OnReconnectOption = Annotated[
    Literal["restart", "continue"],
    typer.Option(
        help="After a reconnect: restart with an empty memory, or continue with the old one."
    ),
]
AsJsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON lines; this is the default.")
]


def stream(
    checkpoint: CausalCheckpointArgument,
    source: SourceArgument,
    pace: PaceOption = None,
    every: EveryOption = None,
    fps: FpsOption = None,
    smooth: SmoothOption = "window:8",
    enter: Annotated[float, typer.Option(help="Probability at which a class is shown.")] = 0.6,
    leave: Annotated[float, typer.Option(help="Probability below which it disappears.")] = 0.4,
    patience: PatienceOption = 1,
    background: BackgroundOption = None,
    top: Annotated[int, typer.Option(help="Classes per frame.", min=1)] = 3,
    drop: DropOption = None,
    limit: LimitOption = None,
    raw: RawOption = None,
    write: WriteOption = None,
    show: ShowOption = False,
    retries: Annotated[int, typer.Option(help="Attempts to reconnect a lost source.", min=0)] = 5,
    back_off: BackOffOption = 0.5,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for a connection or a frame.")
    ] = 5.0,
    transport: Annotated[
        Literal["tcp", "udp"], typer.Option(help="Transport protocol of RTSP.")
    ] = "tcp",
    on_reconnect: OnReconnectOption = "restart",
    fast: FastOption = False,
    device: DeviceOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Recognize a live source frame by frame; prints one JSON line per frame.

    A line has frame, time_s, top and latency_ms, and event if the shown class changes. Ctrl-C
    ends the stream and prints a summary to stderr.

    Example: kinema stream runs/x/best rtsp://camera/1 --fps 12
    """
    from kinema.live.connection import Connection
    from kinema.live.overlay import CaptionedVideo, Window
    from kinema.live.smoothing import Hysteresis, background_labels
    from kinema.live.sources import open_live
    from kinema.live.stream import LiveRecognition, StreamSettings
    from kinema.recognizer import Recognizer

    if every is not None and fps is not None:
        raise typer.BadParameter("--every and --fps exclude each other: give one")
    check_new(write, "--write")
    raw_format, smoothing = _raw(raw), _smoothing(smooth)
    limit_frames, limit_s = _limit(limit)
    show_log()
    recognizer = Recognizer.load(find_checkpoint(checkpoint), device=device)
    labels = background_labels(tuple(background or ()), recognizer.labels)
    settings = StreamSettings(
        every=every,
        rate_hz=fps,
        smoothing=smoothing,
        hysteresis=Hysteresis(enter, leave, patience, labels),
        top=top,
        pace=pace,
        drop=drop,
        on_reconnect=on_reconnect,
        limit_frames=limit_frames,
        limit_s=limit_s,
    )
    connection = Connection(retries, back_off, timeout, transport)
    opened = open_live(source, connection=connection, raw=raw_format)
    live = LiveRecognition(recognizer, opened, settings=settings, fast=fast)
    if every is None and fps is None and not recognizer.preprocessing.has_window:
        notes().print(
            "Every frame of the stream is used, but the network was trained on frames spread over "
            "whole videos: set a similar spacing with --fps or --every."
        )
    canvases: list[Canvas] = [Window(source)] if show else []
    if write is not None:
        canvases.append(CaptionedVideo(write))
    _run(live, canvases)


def _run(live: "LiveRecognition", canvases: list["Canvas"]) -> None:
    """Prints the results. After a signal the exit code is 128 + its number, as in shells."""
    with ExitStack() as stack:
        for canvas in canvases:
            stack.enter_context(closing(canvas))
        stack.callback(lambda: notes().print(str(live.summary)))
        stack.enter_context(live)
        signals = stack.enter_context(_stopped_by_signals(live))
        for result in live:
            if not _printed(result):
                break
            open_canvases = [
                canvas.add(result.picture, result.caption, time_s=result.time_s)
                for canvas in canvases
            ]
            if not all(open_canvases):
                break
    if signals:
        raise typer.Exit(128 + signals[0])


@contextmanager
def _stopped_by_signals(live: "LiveRecognition") -> Iterator[list[int]]:
    """Makes the first Ctrl-C or SIGTERM end the stream in order, and a second one at once.

    Yields:
        Numbers of the signals that arrived.
    """
    received: list[int] = []

    def restore() -> None:
        for kind, handler in original.items():
            signal.signal(kind, handler)

    def stop(number: int, _: FrameType | None) -> None:
        received.append(number)
        live.stop()
        restore()

    original = {kind: signal.signal(kind, stop) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        restore()


def _printed(result: "FrameResult") -> bool:
    """Prints a JSON line; False if the reader of the pipe has closed it, as `head` does."""
    try:
        sys.stdout.write(json.dumps(result.to_dict()) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # At exit Python flushes stdout once more and would print the same error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _smoothing(text: str) -> "Smoothing":
    """Parses --smooth."""
    from kinema.live.smoothing import EveryFrame, ExponentialMean, WindowMean

    name, _, number = text.partition(":")
    if text == "none":
        return EveryFrame()
    if name == "window" and number.isdecimal():
        return WindowMean(int(number))
    if name == "exponential" and re.fullmatch(r"0?\.\d*[1-9]\d*", number):
        # With weight w of the newest frame, older ones decay by 1 - w per frame.
        return ExponentialMean(half_life_frames=math.log(0.5) / math.log(1 - float(number)))
    raise typer.BadParameter(
        f"expected window:8, exponential:0.2 or none, got {text!r}", param_hint="--smooth"
    )


def _limit(text: str | None) -> tuple[int | None, float | None]:
    """Parses --limit into (frames, seconds), of which one is None."""
    if text is None:
        return None, None
    expected = "frames such as 300 or seconds such as 20s"
    frames, seconds = _groups("--limit", r"(\d+)|(\d+(?:\.\d+)?)s", text, expected=expected)
    return (int(frames), None) if frames else (None, float(seconds))


def _raw(text: str | None) -> "RawFormat | None":
    """Parses --raw."""
    from kinema.live.sources import RawFormat

    if text is None:
        return None
    expected = "a size such as 640x480 or 640x480@25"
    pattern = r"(\d+)x(\d+)(?:@(\d+(?:\.\d+)?))?"
    width, height, rate = _groups("--raw", pattern, text, expected=expected)
    return RawFormat(int(width), int(height), float(rate) if rate else None)


def _groups(option: str, pattern: str, text: str, *, expected: str) -> tuple[Any, ...]:
    found = re.fullmatch(pattern, text)
    if found is None:
        raise typer.BadParameter(f"expected {expected}, got {text!r}", param_hint=option)
    return found.groups()
