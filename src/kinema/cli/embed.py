"""`kinema embed`: features of videos, for search and for finding wrong labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import (
    CheckpointArgument,
    ClipsOption,
    CropsOption,
    DeviceOption,
    JsonOption,
    VideosArgument,
    find_checkpoint,
    notes,
    print_json,
    progress_bar,
    results,
    say_error,
)
from kinema.cli.output import check_new
from kinema.errors import OptionError, UnreadableVideoError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def embed(
    checkpoint: CheckpointArgument,
    videos: VideosArgument,
    out: Annotated[Path, typer.Option(help="File to write, .npz or .parquet.")],
    clips: ClipsOption = 1,
    crops: CropsOption = 1,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the features of each video before the classifier.

    They are the mean over clips, crops and frames. A video that cannot be read is reported as an
    error and left out, and the exit code is 1.

    Example: kinema embed runs/x/best videos/ --out features.npz
    """
    import numpy as np

    from kinema.data.listing import list_places
    from kinema.recognizer import Recognizer
    from kinema.report.feature_files import check_feature_file, write_features
    from kinema.values import Views
    from kinema.video.remote import without_secrets

    Views(clips=clips, crops=crops)  # fails on wrong numbers before the network is loaded
    try:
        check_feature_file(out)
    except OptionError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from error
    check_new(out, "--out")
    paths = list(list_places(videos))
    recognizer = Recognizer.load(find_checkpoint(checkpoint), device=device)
    names: list[str] = []
    features: list[NDArray[np.float32]] = []
    errors: list[str] = []
    with progress_bar("embedding") as progress:
        for done, path in enumerate(paths, start=1):
            try:
                features.append(recognizer.embed(path, clips=clips, crops=crops))
                names.append(without_secrets(path))
            except UnreadableVideoError as error:
                errors.append(str(error))
            progress(done, len(paths))
    width = recognizer.net.head.classifier.in_features
    if features:
        write_features(out, names, np.stack(features))
    if as_json:
        counts = {"videos": len(paths), "ok": len(features), "failed": errors}
        print_json({**counts, "features": width, "out": str(out) if features else None})
    elif features:
        results().print(f"{len(features)} videos, {width} features each: {out}")
    for message in errors if not as_json else ():
        say_error(message)
    if errors:
        notes().print(f"{len(errors)} of {len(paths)} videos could not be read")
        if not features:
            say_error(f"No video could be read, so {out.name} is not written.")
        raise typer.Exit(1)
