"""`kinema stream`: what happens in a video, camera or address, frame by frame."""

import json
import math
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import BackgroundOption, DeviceOption, FastOption, notes, show_log
from kinema.cli.output import check_new

if TYPE_CHECKING:
    from kinema.live.overlay import Canvas
    from kinema.live.smoothing import Smoothing
    from kinema.live.sources import RawFormat
    from kinema.live.stream import FrameResult, LiveRecognition
    from kinema.values import Preprocessing


class Pace(StrEnum):
    """Choices of --pace."""

    source = "source"
    full = "full"


class Drop(StrEnum):
    """Choices of --drop."""

    oldest = "oldest"
    newest = "newest"
    never = "never"


class OnReconnect(StrEnum):
    """Choices of --on-reconnect."""

    restart = "restart"
    carry_on = "continue"


class Transport(StrEnum):
    """Choices of --transport."""

    tcp = "tcp"
    udp = "udp"


CausalCheckpointArgument = Annotated[
    Path, typer.Argument(help="Folder of a causal network, such as runs/x/best.")
]
SourceArgument = Annotated[
    str,
    typer.Argument(
        help="Video file, number of a camera, rtsp:// or http:// address, or - for raw frames."
    ),
]
PaceOption = Annotated[
    Pace | None,
    typer.Option(help="source is real time, full is full speed: the default for files."),
]
EveryOption = Annotated[
    int | None,
    typer.Option(
        help="Frames from one that the network gets to the next; by default as in training.",
        min=1,
    ),
]
FpsOption = Annotated[
    float | None,
    typer.Option(help="Frames per second that the network gets, instead of --every."),
]
SmoothOption = Annotated[
    str,
    typer.Option(help="Mean of probabilities: window:FRAMES, exponential:SHARE_OF_NEWEST or none."),
]
PatienceOption = Annotated[
    int, typer.Option(help="Frames in a row it takes until a class is shown.", min=1)
]
DropOption = Annotated[
    Drop | None,
    typer.Option(
        help="Which frames a slow network misses: the oldest, so that the newest one waits "
        "(default of pace source), the newest, or never any (default of pace full)."
    ),
]
LimitOption = Annotated[
    str | None, typer.Option(help="End after so many frames (300) or seconds (20s).")
]
RawOption = Annotated[
    str | None, typer.Option(help="Size and rate of raw RGB frames on stdin: 640x480@25.")
]
WriteOption = Annotated[Path | None, typer.Option(help="Write a video with captions to this file.")]
ShowOption = Annotated[
    bool,
    typer.Option("--show", help="Show the frames with captions in a window (needs OpenCV)."),
]
BackOffOption = Annotated[
    float, typer.Option(help="Seconds before the first of these attempts, doubled each time.")
]
OnReconnectOption = Annotated[
    OnReconnect,
    typer.Option(
        help="After a lost source: restart with an empty memory, or continue with the old."
    ),
]
AsJsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON lines, as without this option.")
]


def stream(
    checkpoint: CausalCheckpointArgument,
    source: SourceArgument,
    pace: PaceOption = None,
    every: EveryOption = None,
    fps: FpsOption = None,
    smooth: SmoothOption = "window:8",
    enter: Annotated[float, typer.Option(help="Probability at which a class is shown.")] = 0.6,
    leave: Annotated[float, typer.Option(help="Probability below which a shown class goes.")] = 0.4,
    patience: PatienceOption = 1,
    background: BackgroundOption = None,
    top: Annotated[int, typer.Option(help="Classes to name for each frame.", min=1)] = 3,
    drop: DropOption = None,
    limit: LimitOption = None,
    raw: RawOption = None,
    write: WriteOption = None,
    show: ShowOption = False,
    retries: Annotated[int, typer.Option(help="Attempts to reach a lost source again.", min=0)] = 5,
    back_off: BackOffOption = 0.5,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer or a frame.")] = 5.0,
    transport: Annotated[Transport, typer.Option(help="Protocol under RTSP.")] = Transport.tcp,
    on_reconnect: OnReconnectOption = OnReconnect.restart,
    fast: FastOption = False,
    device: DeviceOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Recognize frame by frame; one JSON line for each frame that the network gets.

    A line has frame, time_s, top and latency_ms, and event when another class is shown, or none.
    Ctrl-C ends the stream with a summary on stderr.

    Example: kinema stream runs/x/best rtsp://camera/1 --fps 12
    """
    from kinema.live.remote import Connection
    from kinema.live.smoothing import Hysteresis
    from kinema.live.sources import open_live
    from kinema.live.stream import LiveRecognition, StreamSettings, labels_named
    from kinema.recognizer import Recognizer

    if every is not None and fps is not None:
        raise typer.BadParameter("--every and --fps are two ways to say one thing: give one")
    check_new(write, "--write")
    form = _raw(raw)
    smoothing = _smoothing(smooth)
    limit_frames, limit_s = _limit(limit)
    show_log()
    recognizer = Recognizer.load(checkpoint, device=device)
    labels = labels_named(tuple(background or ()), recognizer.labels)
    settings = StreamSettings(
        every=every,
        rate_hz=fps,
        smoothing=smoothing,
        hysteresis=Hysteresis(enter, leave, patience, labels),
        top=top,
        pace=None if pace is None else pace.value,
        drop=None if drop is None else drop.value,
        on_reconnect=on_reconnect.value,
        limit_frames=limit_frames,
        limit_s=limit_s,
    )
    how = Connection(retries, back_off, timeout, transport.value)
    opened = open_live(source, connection=how, raw=form)
    live = LiveRecognition(recognizer, opened, settings=settings, fast=fast)
    if every is None and fps is None:
        _note_spacing(recognizer.preprocessing)
    _run(live, _canvases(write, show=show, title=source))


def _note_spacing(how: "Preprocessing") -> None:
    if how.sampling != "dense":
        notes().print(
            "Every frame of the stream is taken. The network learned on frames spread over whole "
            "videos: --fps or --every sets as wide a spacing."
        )


def _run(live: "LiveRecognition", canvases: list["Canvas"]) -> None:
    """Prints the results; after a signal the code is that of the shell, 128 and its number."""
    with ExitStack() as stack:
        for canvas in canvases:
            stack.enter_context(closing(canvas))
        stack.callback(lambda: notes().print(str(live.summary)))
        stack.enter_context(live)
        signals = stack.enter_context(_stopped_by_signals(live))
        for result in live:
            if not _printed(result):
                break
            wanted = [
                canvas.add(result.picture, _caption(result), time_s=result.time_s)
                for canvas in canvases
            ]
            if not all(wanted):
                break
    if signals:
        raise typer.Exit(128 + signals[0])


@contextmanager
def _stopped_by_signals(live: "LiveRecognition") -> Iterator[list[int]]:
    """The first Ctrl-C or SIGTERM ends the stream in order, a second one at once."""
    seen: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)

    def stop(number: int, _: FrameType | None) -> None:
        seen.append(number)
        live.stop()
        for kind in kinds:
            signal.signal(kind, before[kind])

    before = {kind: signal.signal(kind, stop) for kind in kinds}
    try:
        yield seen
    finally:
        for kind in kinds:
            signal.signal(kind, before[kind])


def _printed(result: "FrameResult") -> bool:
    """Prints a result as a line; False when nobody reads any more, as behind `head`."""
    try:
        sys.stdout.write(json.dumps(_row(result)) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would flush what is left when it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _row(result: "FrameResult") -> dict[str, object]:
    row: dict[str, object] = {
        "frame": result.frame,
        "time_s": round(result.time_s, 6),
        "top": [c.to_dict(digits=6) for c in result.top],
    }
    if result.changed:
        shown = result.shown
        row["event"] = {
            "label": None if shown is None else shown.label,
            "name": None if shown is None else shown.name,
        }
    row["latency_ms"] = round(result.latency_ms, 3)
    return row


def _caption(result: "FrameResult") -> str:
    """The shown class, and below it the most probable ones."""
    lines = [f"{entry.prob:4.0%} {entry.name}" for entry in result.top]
    return "\n".join([result.shown.name if result.shown else "-", *lines])


def _canvases(write: Path | None, *, show: bool, title: str) -> list["Canvas"]:
    from kinema.live.overlay import CaptionedVideo, Window

    canvases: list[Canvas] = [Window(title)] if show else []
    return canvases if write is None else [*canvases, CaptionedVideo(write)]


def _smoothing(text: str) -> "Smoothing":
    """Reads --smooth."""
    from kinema.live.smoothing import EveryFrame, ExponentialMean, WindowMean

    name, _, number = text.partition(":")
    if text == "none":
        return EveryFrame()
    if name == "window" and number.isdecimal():
        return WindowMean(int(number))
    if name == "exponential" and re.fullmatch(r"0?\.\d*[1-9]\d*", number):
        # The weight of a frame is (1 - share) times that of the next one.
        return ExponentialMean(half_life_frames=math.log(0.5) / math.log(1 - float(number)))
    raise typer.BadParameter(
        f"expected window:8, exponential:0.2 or none, got {text!r}", param_hint="--smooth"
    )


def _limit(text: str | None) -> tuple[int | None, float | None]:
    """Reads --limit: frames and seconds, of which one is None."""
    if text is None:
        return None, None
    found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)s", text)
    if found is None:
        raise typer.BadParameter(
            f"expected frames such as 300 or seconds such as 20s, got {text!r}",
            param_hint="--limit",
        )
    frames, seconds = found.groups()
    return (int(frames), None) if frames else (None, float(seconds))


def _raw(text: str | None) -> "RawFormat | None":
    """Reads --raw."""
    from kinema.live.sources import RawFormat

    if text is None:
        return None
    found = re.fullmatch(r"(\d+)x(\d+)(?:@(\d+(?:\.\d+)?))?", text)
    if found is None:
        raise typer.BadParameter(
            f"expected a size such as 640x480 or 640x480@25, got {text!r}", param_hint="--raw"
        )
    width, height, rate = found.groups()
    return RawFormat(int(width), int(height), float(rate) if rate else None)
