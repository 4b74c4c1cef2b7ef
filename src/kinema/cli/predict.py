"""`kinema predict`: most probable classes of videos."""

from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import (
    CheckpointArgument,
    ClipsOption,
    CropsOption,
    DeviceOption,
    FastOption,
    JsonOption,
    VideosArgument,
    find_checkpoint,
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


def predict(
    checkpoint: CheckpointArgument,
    videos: VideosArgument,
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
    from kinema.data.listing import list_places
    from kinema.recognizer import Recognizer
    from kinema.report.tables import prediction_table
    from kinema.values import Views
    from kinema.video.remote import without_secrets

    Views(clips=clips, crops=crops)  # fails on wrong numbers before the network is loaded
    paths = list(list_places(videos))
    if fast:
        show_log()  # shows the chosen form
    recognizer = Recognizer.load(find_checkpoint(checkpoint), device=device, fast=fast)
    outcomes: list[tuple[str, Prediction | str]] = []  # path, and the prediction or the error
    with progress_bar("predicting") as progress:
        for done, path in enumerate(paths, start=1):
            outcome: Prediction | str
            try:
                outcome = recognizer.predict(
                    path, clips=clips, crops=crops, top=top, decode_on=decode_on
                )
            except UnreadableVideoError as error:
                outcome = str(error)
            outcomes.append((without_secrets(path), outcome))
            progress(done, len(paths))
    errors = [outcome for _, outcome in outcomes if isinstance(outcome, str)]
    if as_json:
        print_json([_row(path, outcome) for path, outcome in outcomes])
    else:
        results().print(prediction_table(outcomes))
        for message in errors:
            say_error(message)
    if errors:
        notes().print(f"{len(errors)} of {len(outcomes)} videos could not be read")
        raise typer.Exit(1)


def _row(path: str, outcome: "Prediction | str") -> dict[str, object]:
    if isinstance(outcome, str):
        return {"path": path, "error": outcome}
    return {"path": path, "top": [c.to_dict(digits=6) for c in outcome.top]}
