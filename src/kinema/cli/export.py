"""`kinema export`: a network as a file for another runtime."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import JsonOption, notes, print_json, results

if TYPE_CHECKING:
    from kinema.export import ExportReport

# Clips of one forward pass while verifying, and how many are enough to verify with.
BATCH, ENOUGH = 4, 32


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a network, such as runs/x/best.")],
    format_: Annotated[
        str, typer.Option("--format", help="onnx, openvino, exported or aoti.")
    ] = "onnx",
    out: Annotated[
        Path | None, typer.Option(help="The file; by default named after the network, here.")
    ] = None,
    videos: Annotated[
        list[Path] | None,
        typer.Option(help="Verify with clips of these videos or folders (32 at most)."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Compute with 8 bits.")] = False,
    calibration: Annotated[
        list[Path] | None,
        typer.Option(help="Videos or folders that show int8 the range of values: 100 to 300."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a network for another runtime, and verify the file by running it.

    Example: kinema export runs/x/best --format onnx --videos clips/
    """
    if int8 != bool(calibration):
        raise typer.BadParameter(
            "--int8 and --calibration belong together: 8-bit layers take their ranges from videos",
            param_hint="--int8",
        )
    import torch

    from kinema.data.listing import list_videos, read_clips
    from kinema.export import FORMATS, Facts
    from kinema.export import export as write
    from kinema.predict import Recognizer

    recogniser = Recognizer.load(checkpoint, device="cpu")
    how = recogniser.preprocessing
    suffix = FORMATS[format_].suffix if format_ in FORMATS else ""
    clips = None
    if videos:
        chosen = list(list_videos(videos))[:ENOUGH]
        clips = torch.cat(list(read_clips(chosen, how, batch=BATCH)))
    else:
        notes().print("Verified with noise. Name real videos with --videos for a telling check.")
    report = write(
        recogniser.net,
        out or Path(f"{recogniser.net.name}{'_int8' if int8 else ''}{suffix}"),
        format=format_,
        size=how.crop_px,
        facts=Facts(recogniser.labels, how),
        clips=clips,
        calibration=read_clips(list_videos(calibration), how, batch=BATCH) if calibration else None,
        overwrite=overwrite,
    )
    if as_json:
        print_json(_document(report))
    else:
        _print(report)


def _document(report: "ExportReport") -> dict[str, object]:
    check = report.verification
    assert check is not None
    return {
        "path": str(report.path),
        "format": report.format,
        "int8": report.int8,
        "input_shape": list(report.input_shape),
        "bytes": report.bytes,
        "clips": check.clips,
        "max_abs_diff": check.max_abs_diff,
        "max_rel_diff": check.max_rel_diff,
        "top1_agreement": check.top1_agreement,
        "speedup": round(check.speedup, 3),
    }


def _print(report: "ExportReport") -> None:
    check = report.verification
    assert check is not None
    out = results()
    out.print(f"{report.path}  {report.bytes / 1e6:.1f} MB")
    shape = " x ".join(str(side) for side in report.input_shape)
    out.print(f"Input          clips, {shape}, float32, normalised")
    out.print(f"Difference     {check.max_abs_diff:.1e} ({check.max_rel_diff:.1e} of the largest)")
    out.print(f"Same top-1     {check.top1_agreement:.1%} of {check.clips} clips")
    out.print(f"Speed          {check.speedup:.2f} times PyTorch in float32")
