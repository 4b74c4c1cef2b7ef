"""`kinema export`: a network as a file for another runtime."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import (
    CheckpointArgument,
    JsonOption,
    find_checkpoint,
    notes,
    print_json,
    results,
)

if TYPE_CHECKING:
    import torch

    from kinema.exporters import ExportReport
    from kinema.values import Preprocessing

# Clips of one forward pass while verifying, and how many are enough to verify with; likewise frames
# of a stream.
BATCH, ENOUGH, FRAMES = 4, 32, 64


FormatOption = Annotated[
    str, typer.Option("--format", help="onnx, openvino, exported (torch.export) or aoti.")
]
OutOption = Annotated[
    Path | None, typer.Option(help="File to write; by default named after the network, here.")
]
VideosOption = Annotated[
    list[Path] | None,
    typer.Option(help="Video or folder to verify with (repeatable, 32 videos at most)."),
]
Int8Option = Annotated[
    bool, typer.Option("--int8", help="Compute in 8-bit integers; needs --calibration.")
]
CalibrationOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="Video or folder from which --int8 takes the ranges of values (repeatable); "
        "100 to 300 videos are enough."
    ),
]
StreamOption = Annotated[
    bool,
    typer.Option(
        "--stream", help="Export one step of a causal network: its memory goes in and out."
    ),
]
StreamsOption = Annotated[
    int, typer.Option(help="Streams that a step serves, with --stream.", min=1)
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]


def export(
    checkpoint: CheckpointArgument,
    format_: FormatOption = "onnx",
    out: OutOption = None,
    videos: VideosOption = None,
    int8: Int8Option = False,
    calibration: CalibrationOption = None,
    stream: StreamOption = False,
    streams: StreamsOption = 1,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a network for another runtime, and verify the file by running it.

    Formats: onnx (ONNX Runtime), openvino, exported (torch.export) and aoti (AOTInductor).

    Example: kinema export runs/x/best --format onnx --videos clips/
    """
    _check_together(int8=int8, calibration=bool(calibration), stream=stream)
    from kinema.data.listing import list_videos, read_clips
    from kinema.exporters import FORMATS, Facts, export_stream
    from kinema.exporters import export as export_clips
    from kinema.recognizer import Recognizer

    recognizer = Recognizer.load(find_checkpoint(checkpoint), device="cpu")
    net, how = recognizer.net, recognizer.preprocessing
    facts, size = Facts(recognizer.labels, how), how.crop_px
    suffix = FORMATS[format_].suffix if format_ in FORMATS else ""
    kind = "_stream" if stream else "_int8" if int8 else ""
    # A foreign folder may name its network as a path: the file is written here all the same.
    target = out or Path(Path(f"{net.name}{kind}{suffix}").name)
    clips = _clips(videos, how)
    if stream:
        report = export_stream(
            net,
            target,
            format=format_,
            size=size,
            streams=streams,
            facts=facts,
            video=None if clips is None else _as_streams(clips, streams),
            overwrite=overwrite,
        )
    else:
        ranges = read_clips(list_videos(calibration), how, batch=BATCH) if calibration else None
        report = export_clips(
            net,
            target,
            format=format_,
            size=size,
            facts=facts,
            clips=clips,
            calibration=ranges,
            overwrite=overwrite,
        )
    if as_json:
        print_json(_document(report))
    else:
        _print(report)
    if clips is None:
        notes().print("It was verified with noise; real videos (--videos) tell more.")


def _check_together(*, int8: bool, calibration: bool, stream: bool) -> None:
    if int8 != calibration:
        raise typer.BadParameter(
            "--int8 and --calibration belong together: 8-bit layers take their ranges from videos",
            param_hint="--int8",
        )
    if stream and int8:
        raise typer.BadParameter("a step of a stream has no 8-bit form", param_hint="--int8")


def _clips(videos: list[Path] | None, how: "Preprocessing") -> "torch.Tensor | None":
    """The clips to verify with; none without videos."""
    import torch

    from kinema.data.listing import list_videos, read_clips

    if not videos:
        return None
    chosen = list(list_videos(videos))[:ENOUGH]
    return torch.cat(list(read_clips(chosen, how, batch=BATCH)))


def _as_streams(clips_BTCHW: "torch.Tensor", streams: int) -> "torch.Tensor":
    """One clip after the other, the same in every stream: (streams, frames, 3, H, W)."""
    frames = clips_BTCHW.flatten(0, 1)[:FRAMES]
    return frames.expand(streams, *frames.shape).contiguous()


def _document(report: "ExportReport") -> dict[str, object]:
    check = report.verification
    assert check is not None
    return {
        "path": str(report.path),
        "format": report.format,
        "int8": report.int8,
        "inputs": {name: list(shape) for name, shape in report.inputs.items()},
        "bytes": report.bytes,
        **asdict(check),
        "speedup": round(check.speedup, 3),
    }


def _print(report: "ExportReport") -> None:
    check = report.verification
    assert check is not None
    out = results()
    counted = "clips" if "clips" in report.inputs else "frames"
    out.print(f"{report.path}  {report.bytes / 1e6:.1f} MB")
    for title, (name, sides) in zip(("Input", ""), report.inputs.items(), strict=False):
        shape = " x ".join(str(side) for side in sides)
        out.print(f"{title:<15}{name}, {shape}, float32" + (", normalized" if title else ""))
    if len(report.inputs) > 2:
        out.print(f"{'':<15}... {len(report.inputs) - 2} more tensors of the state")
    out.print(f"Difference     {check.max_abs_diff:.1e} ({check.max_rel_diff:.1e} of the largest)")
    out.print(f"Same top-1     {check.top1_agreement:.1%} of {check.clips} {counted}")
    out.print(f"Speed          {check.speedup:.2f} times PyTorch in float32")
