"""`kinema bench`: side-by-side measurements on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import JsonOption, notes, print_json, results
from kinema.system.files import check_writable

if TYPE_CHECKING:
    from kinema.bench.result import Measurement

app = typer.Typer(
    no_args_is_help=True,
    help="Time fast ways of doing something against plain ones, on this machine.",
)


def _writable(file: Path | None) -> Path | None:
    if file is not None:
        check_writable(file)
    return file


OutOption = Annotated[
    Path | None,
    typer.Option(
        help="Keep the measurement, with machine facts, in this .json file.",
        dir_okay=False,
        callback=_writable,
    ),
]
BatchOption = Annotated[
    list[int] | None,
    typer.Option(
        help="Clips of one forward pass (repeatable): 1 for latency, 16 for throughput.",
        min=1,
        show_default="4",
    ),
]
DifferenceOption = Annotated[
    str | None,
    typer.Option(
        help="Network of the list, such as TEA: adds the time per video by which it exceeds the "
        "others, such as TEA - ME."
    ),
]
FramesOption = Annotated[int, typer.Option(help="Frames of a clip.", min=1)]
SizeOption = Annotated[int, typer.Option(help="Side of the frames in pixels.", min=32)]
NetworkOption = Annotated[str, typer.Option(help="Network, such as tsm_resnet50.")]
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
        typer.Option(help="Form to time: authors, eager-32, fused-bf16 ... (repeatable)."),
    ] = None,
    batch: BatchOption = None,
    frames: FramesOption = 8,
    size: SizeOption = 224,
    rounds: RoundsOption = 9,
    difference_from: DifferenceOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time networks: against the plain backbone, and fast forms against the authors' code.

    Example: kinema bench model tsn_resnet50 tsm_resnet50 --form eager-32 --form fused-bf16
    """
    from kinema.bench.models import DEFAULT_FORMS, NETWORKS, measure_models

    measurement = measure_models(
        names or NETWORKS,
        forms=form or DEFAULT_FORMS,
        batches=batch or (4,),
        frames=frames,
        size=size,
        rounds=rounds,
        difference_from=difference_from,
        progress=notes().print,
    )
    finish(measurement, out, as_json=as_json)


@app.command()
def decode(
    clip: Annotated[
        Path | None,
        typer.Argument(help="Video to encode in every kind of file; by default a rendered one."),
    ] = None,
    rounds: RoundsOption = 9,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time decoding eight frames, against PyAV in order and, if it is installed, decord.

    Example: kinema bench decode clip.mp4
    """
    from kinema.bench.decode import measure_decode

    finish(measure_decode(clip=clip, rounds=rounds), out, as_json=as_json)


@app.command()
def video(
    file: Annotated[Path, typer.Argument(help="Any video.")],
    network: NetworkOption = "tsm_resnet50",
    rounds: RoundsOption = 15,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time the way from the file to the named classes, against the network alone.

    Example: kinema bench video clip.mp4 --network tsm_resnet18
    """
    from kinema.bench.video import measure_video

    measurement = measure_video(file, model=network, rounds=rounds, progress=notes().print)
    finish(measurement, out, as_json=as_json)


@app.command()
def stream(
    backbone: Annotated[
        list[str] | None, typer.Option(help="Backbone (repeatable); two of the papers' by default.")
    ] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="Temporal module (repeatable), as tsm.")
    ] = None,
    cameras: Annotated[
        list[int] | None, typer.Option(help="Cameras of one step (repeatable); 1 and 8 by default.")
    ] = None,
    form: Annotated[
        list[str] | None, typer.Option(help="Form (repeatable), as openvino-bf16; default: all.")
    ] = None,
    frames: FramesOption = 8,
    size: SizeOption = 224,
    rounds: RoundsOption = 100,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time networks frame by frame, against the plain backbone and against a sliding clip.

    Example: kinema bench stream --backbone mobilenetv2_100 --family tsm --cameras 1
    """
    from kinema.bench.stream import BACKBONES, FAMILIES, FORMS, measure_streams

    measurement = measure_streams(
        backbone or BACKBONES,
        families=family or FAMILIES,
        batches=cameras or (1, 8),
        forms=form or tuple(FORMS),
        frames=frames,
        size=size,
        rounds=rounds,
        progress=notes().print,
    )
    finish(measurement, out, as_json=as_json)


def finish(measurement: "Measurement", out: Path | None, *, as_json: bool) -> None:
    """Prints a measurement, then writes it to the file."""
    from kinema.bench.result import write_measurement

    document = measurement.document()
    if as_json:
        print_json(document)
    else:
        _print(measurement)
    if out is not None:
        write_measurement(document, out)


def _print(measurement: "Measurement") -> None:
    from kinema.report.tables import rows_table

    results().print(rows_table(measurement.rows))
    for key, value in measurement.settings.items():
        results().print(f"{key}: {value}")
    for note in measurement.notes:
        results().print(note)
