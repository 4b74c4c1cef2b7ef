"""`kinema predict`: most probable classes of videos."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import (
    CheckpointArgument,
    ClipsOption,
    CropsOption,
    DeviceOption,
    FastOption,
    JsonOption,
    notes,
    print_json,
    progress_bar,
    results,
    say_error,
    show_log,
)
from kinema.errors import UnreadableVideoError

if TYPE_CHECKING:
    from kinema.values import Prediction

Outcome = tuple[str, "Prediction | str"]  # path, and the prediction or the error


def predict(
    checkpoint: CheckpointArgument,
    videos: Annotated[
        list[Path], typer.Argument(help="Video files, folders of videos or folders of frames.")
    ],
    top: Annotated[int, typer.Option(help="Most probable classes to show per video.", min=1)] = 5,
    clips: ClipsOption = 1,
    crops: CropsOption = 1,
    fast: FastOption = False,
    device: DeviceOption = None,
    decode_on: Annotated[
        str | None,
        typer.Option(help="GPU that decodes the videos, such as cuda; the CPU by default."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Predict the most probable classes of each video.

    A video that cannot be read is reported as an error, the others are still predicted, and the
    exit code is 1.

    Example: kinema predict runs/x/best clip.mp4 more_clips/
    """
    from kinema.data.listing import list_videos
    from kinema.recognizer import Recognizer
    from kinema.values import Views

    Views(clips=clips, crops=crops)  # fails on wrong numbers before the network is loaded
    paths = list(list_videos(videos))
    if fast:
        show_log()  # shows the chosen form
    recognizer = Recognizer.load(checkpoint, device=device, fast=fast)
    run = partial(recognizer.predict, clips=clips, crops=crops, top=top, decode_on=decode_on)
    outcomes: list[Outcome] = []
    with progress_bar("predicting") as progress:
        for done, path in enumerate(paths, start=1):
            outcomes.append((str(path), _outcome(run, path)))
            progress(done, len(paths))
    failed = [path for path, outcome in outcomes if isinstance(outcome, str)]
    if as_json:
        print_json([_row(path, outcome) for path, outcome in outcomes])
    else:
        _print(outcomes)
        for _, outcome in outcomes:
            if isinstance(outcome, str):
                say_error(outcome)
    if failed:
        notes().print(f"{len(failed)} of {len(outcomes)} videos could not be read")
        raise typer.Exit(1)


def _outcome(run: Callable[[Path], "Prediction"], path: Path) -> "Prediction | str":
    try:
        return run(path)
    except UnreadableVideoError as error:
        return str(error)


def _row(path: str, outcome: "Prediction | str") -> dict[str, object]:
    if isinstance(outcome, str):
        return {"path": path, "error": outcome}
    top = [c.to_dict(digits=6) for c in outcome.top]
    return {"path": path, "top": top}


def _print(outcomes: list[Outcome]) -> None:
    from kinema.report.tables import prediction_table

    results().print(prediction_table(outcomes))
