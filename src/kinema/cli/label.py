"""`kinema label`: labels for an archive."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from kinema.cli.console import (
    CheckpointArgument,
    ClipsOption,
    CropsOption,
    FastOption,
    JsonOption,
    find_checkpoint,
    notes,
    print_json,
    progress_bar,
    results,
    resume_hint,
    show_log,
)

if TYPE_CHECKING:
    from kinema.archive.task import LabelReport


SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help="Text file with a path per line, folder of videos, or Parquet files; it, and the "
        "paths in it, may be s3://, gs:// or http(s):// addresses.",
    ),
]
RootOption = Annotated[
    str | None,
    typer.Option(help="Base of relative paths, or its address.", show_default="folder of INPUT"),
]
FeaturesOption = Annotated[
    bool, typer.Option("--features", help="Also write the mean features before the classifier.")
]
RetryFailedOption = Annotated[
    bool, typer.Option("--retry-failed", help="Retry videos that failed in an earlier run.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="Running Ray cluster, such as auto or 10.0.0.1:6379; by default this machine."
    ),
]
WorkersOption = Annotated[int | None, typer.Option(help="Processes that run the network.", min=1)]
PoolDeviceOption = Annotated[
    str | None, typer.Option(help="cpu or cuda; by default GPUs if available.")
]
StoreMbOption = Annotated[
    int, typer.Option(help="Memory for views between decoders and workers on this machine.", min=80)
]


def label(
    checkpoint: CheckpointArgument,
    source: SourceArgument,
    out: Annotated[
        Path, typer.Option(help="Folder for the Parquet files; an existing one is resumed.")
    ],
    root: RootOption = None,
    column: Annotated[str, typer.Option(help="Column of paths in Parquet files.")] = "path",
    top: Annotated[int, typer.Option(help="Classes to write per video.", min=1)] = 5,
    clips: ClipsOption = 1,
    crops: CropsOption = 1,
    features: FeaturesOption = False,
    fast: FastOption = False,
    retry_failed: RetryFailedOption = False,
    decode_seconds: Annotated[
        int, typer.Option(help="Seconds for decoding one video.", min=1)
    ] = 60,
    decode_mb: Annotated[int, typer.Option(help="Memory for decoding one video.", min=1)] = 2048,
    file_rows: Annotated[int, typer.Option(help="Rows per Parquet file.", min=1)] = 5000,
    address: AddressOption = None,
    workers: WorkersOption = None,
    decoders: Annotated[int | None, typer.Option(help="Processes that decode.", min=1)] = None,
    threads: Annotated[int, typer.Option(help="CPU threads per worker.", min=1)] = 1,
    device: PoolDeviceOption = None,
    store_mb: StoreMbOption = 512,
    as_json: JsonOption = False,
) -> None:
    """Label an archive of videos, on one machine or on a Ray cluster.

    Writes Parquet files with path, top classes and error. A job that was stopped resumes when it is
    started again. Videos that cannot be read get an error in their row; the exit code stays 0.

    Example: kinema label runs/x/best videos.txt --out labels --fast
    """
    from kinema.archive.settings import ClusterSettings, LabelSettings
    from kinema.archive.task import label as label_archive

    settings = LabelSettings(
        clips, crops, top, features, fast, retry_failed, decode_seconds, decode_mb, file_rows
    )
    where = ClusterSettings(address, workers, decoders, threads, cast("Any", device), store_mb)
    show_log()
    checkpoint = find_checkpoint(checkpoint)
    # Ray reports killed workers on stdout, which is for the result alone.
    with (
        resume_hint("the same command"),
        progress_bar("labeling") as progress,
        redirect_stdout(sys.stderr),
    ):
        report = label_archive(
            checkpoint,
            source,
            out,
            settings,
            cluster=where,
            root=root,
            column=column,
            progress=progress,
        )
    if as_json:
        print_json(_document(report))
        return
    results().print(
        f"{report.videos} videos: {report.ok} labeled, {report.failed} failed; "
        f"{report.written} in this run, {report.videos_per_s:.1f} per second"
    )
    if report.failed:
        notes().print("The column `error` has the reasons of failures; --retry-failed tries again.")
    if report.repeated:
        notes().print(f"{report.repeated} paths are listed more than once")


def _document(report: "LabelReport") -> dict[str, object]:
    steady = report.steady_videos_per_s
    return {
        "out": str(report.out),
        "videos": report.videos,
        "ok": report.ok,
        "failed": report.failed,
        "written": report.written,
        "repeated": report.repeated,
        "seconds": round(report.seconds, 3),
        "videos_per_s": round(report.videos_per_s, 3),
        "steady_videos_per_s": None if steady is None else round(steady, 3),
    }
