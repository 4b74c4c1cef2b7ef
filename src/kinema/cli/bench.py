"""`kinema bench`: side-by-side measurements on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import JsonOption, notes, print_json, results

if TYPE_CHECKING:
    from kinema.bench.result import Measurement

app = typer.Typer(no_args_is_help=True, help="Measure forms of the same work against each other.")

OutOption = Annotated[
    Path | None, typer.Option(help="Keep the measurement, with machine facts, in this .json file.")
]
BatchOption = Annotated[int, typer.Option(help="Clips of one forward pass.", min=1)]
FramesOption = Annotated[int, typer.Option(help="Frames of a clip.", min=1)]


RoundsOption = Annotated[
    int, typer.Option(help="Times that every form is timed; the median counts.", min=1)
]


@app.command()
def model(
    names: Annotated[
        list[str] | None, typer.Argument(help="Networks; those of the papers by default.")
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option(help="authors, eager-32, fused-bf16, openvino-int8, ... (repeatable)."),
    ] = None,
    batch: BatchOption = 4,
    frames: FramesOption = 8,
    size: Annotated[int, typer.Option(help="Side of the frames in pixels.", min=32)] = 224,
    rounds: RoundsOption = 9,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Networks against the plain backbone, fast forms against the authors' form.

    Example: kinema bench model tsn_resnet50 tsm_resnet50 --form eager-32 --form fused-bf16
    """
    from kinema.bench.models import DEFAULT_FORMS, NETWORKS, measure_models

    measurement = measure_models(
        names or NETWORKS,
        forms=form or DEFAULT_FORMS,
        batch=batch,
        frames=frames,
        size=size,
        rounds=rounds,
        progress=notes().print,
    )
    _finish(measurement, out, as_json=as_json)


@app.command()
def operators(
    batch: BatchOption = 4,
    frames: FramesOption = 8,
    rounds: RoundsOption = 15,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Operators along time against a copy of the same bytes."""
    from kinema.bench.operators import measure_operators

    measurement = measure_operators(
        batch=batch, frames=frames, rounds=rounds, progress=notes().print
    )
    _finish(measurement, out, as_json=as_json)


@app.command()
def decode(
    clip: Annotated[
        Path | None, typer.Argument(help="Video to encode anew in every kind; rendered if none.")
    ] = None,
    rounds: RoundsOption = 9,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decoding eight frames against PyAV in order and, if it is installed, decord."""
    from kinema.bench.decode import measure_decode

    _finish(measure_decode(clip=clip, rounds=rounds), out, as_json=as_json)


@app.command()
def video(
    file: Annotated[Path, typer.Argument(help="Any video.")],
    network: Annotated[str, typer.Option(help="Name of a network.")] = "tsm_resnet50",
    rounds: RoundsOption = 15,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """From the file to the named classes, against the model alone."""
    from kinema.bench.video import measure_video

    measurement = measure_video(file, model=network, rounds=rounds, progress=notes().print)
    _finish(measurement, out, as_json=as_json)


@app.command()
def train(
    network: Annotated[str, typer.Option(help="Name of a network.")] = "tsm_resnet18",
    form: Annotated[
        list[str] | None, typer.Option(help="plain, + bf16, ... (repeatable); all by default.")
    ] = None,
    batch: BatchOption = 8,
    frames: FramesOption = 8,
    size: Annotated[int, typer.Option(help="Side of the frames in pixels.", min=32)] = 112,
    rounds: RoundsOption = 9,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """A training step in fast forms against the plain one."""
    from kinema.bench.training import FORMS, measure_training

    measurement = measure_training(
        model=network,
        forms=form or tuple(FORMS),
        batch=batch,
        frames=frames,
        size_px=size,
        rounds=rounds,
        progress=notes().print,
    )
    _finish(measurement, out, as_json=as_json)


def _finish(measurement: "Measurement", out: Path | None, *, as_json: bool) -> None:
    from kinema.bench.result import write_measurement

    document = measurement.document()
    if out is not None:
        write_measurement(document, out)
    if as_json:
        print_json(document)
        return
    from kinema.report.tables import rows_table

    results().print(rows_table(measurement.rows))
    for key, value in measurement.settings.items():
        results().print(f"{key}: {value}")
    for note in measurement.notes:
        results().print(note)
