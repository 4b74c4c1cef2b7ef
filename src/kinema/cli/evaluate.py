"""`kinema evaluate`: accuracy on annotated videos under a test protocol."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from kinema.cli.console import (
    CheckpointArgument,
    DeviceOption,
    FastOption,
    MeasureOption,
    find_checkpoint,
    notes,
    print_json,
    print_times,
    progress_bar,
    results,
    show_log,
)
from kinema.cli.data import FormatOption, RootOption, SplitOption, videos_folder
from kinema.cli.output import (
    RESULTS_FILE,
    ScoresOption,
    SubmissionFormOption,
    SubmissionOption,
    check_new,
    score_files,
)
from kinema.errors import OptionError, UnreadableVideoError
from kinema.system.files import write_whole

if TYPE_CHECKING:
    from kinema.evaluation.protocols import Protocol
    from kinema.inference.optimize import WantedPrecision
    from kinema.models.network import VideoNetwork
    from kinema.values import Annotations, AverageName, Preprocessing, Report, Views


def _list_protocols(context: typer.Context, requested: bool) -> None:
    """Prints the test protocols and the places in the papers that use them, then exits."""
    if not requested:
        return
    from kinema.evaluation.protocols import paper_tests, protocols

    if context.params.get("as_json"):
        print_json(
            [
                {**asdict(protocol), "papers": [asdict(test) for test in paper_tests(protocol)]}
                for protocol in protocols().values()
            ]
        )
        raise typer.Exit
    from rich.padding import Padding

    out = results()
    for protocol in protocols().values():
        out.print(f"{protocol.name}: {protocol.about}", style="bold")
        for test in paper_tests(protocol):
            line = f"{test.paper}, {test.place} ({', '.join(test.datasets)}). {test.reading}"
            out.print(Padding(line.rstrip(), (0, 0, 0, 4), expand=False))
    raise typer.Exit


# Click runs the callbacks of given options before it reports missing arguments, and those of eager
# options first. So --list-protocols works alone, and --json is set when it prints.
ListProtocolsOption = Annotated[
    bool,
    typer.Option(
        "--list-protocols", help="List the test protocols and exit.", callback=_list_protocols
    ),
]
EagerJsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document instead of tables.", is_eager=True),
]
ProtocolOption = Annotated[
    str | None, typer.Option(help="Views and sizes of a paper; see --list-protocols.")
]
ProtocolClipsOption = Annotated[
    int | None, typer.Option(help="Clips per video.", min=1, show_default="1")
]
ProtocolCropsOption = Annotated[
    int | None, typer.Option(help="Crops per clip: 1 (center), 3 or 10.", show_default="1")
]
FullResolutionOption = Annotated[
    bool, typer.Option("--full-resolution", help="Use crops as large as the short side.")
]
TwiceSampleOption = Annotated[
    bool,
    typer.Option(
        "--twice-sample",
        help="Take the two clips at the middle and the start of every segment, as TSM's code does.",
    ),
]
UniformSampleOption = Annotated[
    bool,
    typer.Option(
        "--uniform-sample",
        help="Spread clips from first to last frame of every segment, as TANet's code does.",
    ),
]
AverageOption = Annotated[
    str | None,
    typer.Option(
        help="Mean over views: of scores (before softmax) or of probs.",
        show_default="the network's own",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        help="Output folder for results.json, per_class.csv, confusion.csv and confusion.png."
    ),
]
SkipUnreadableOption = Annotated[
    bool, typer.Option("--skip-unreadable", help="Skip unreadable videos and count them.")
]
PrecisionOption = Annotated[
    str | None, typer.Option(help="32 or bf16, or auto with --fast.", show_default=False)
]


def evaluate(
    checkpoint: CheckpointArgument,
    data: Annotated[Path, typer.Option(help="Annotation file.")],
    root: RootOption = None,
    format_: FormatOption = "csv",
    split: SplitOption = 1,
    protocol: ProtocolOption = None,
    clips: ProtocolClipsOption = None,
    crops: ProtocolCropsOption = None,
    full_resolution: FullResolutionOption = False,
    twice_sample: TwiceSampleOption = False,
    uniform_sample: UniformSampleOption = False,
    average: AverageOption = None,
    scores: ScoresOption = None,
    submission: SubmissionOption = None,
    form: SubmissionFormOption = None,
    out: OutOption = None,
    skip_unreadable: SkipUnreadableOption = False,
    batch: Annotated[int, typer.Option(help="Views per forward pass.", min=1)] = 8,
    workers: Annotated[int, typer.Option(help="Decoding worker processes.", min=0)] = 2,
    precision: PrecisionOption = None,
    fast: FastOption = False,
    device: DeviceOption = None,
    measure: MeasureOption = False,
    list_protocols: ListProtocolsOption = False,
    as_json: EagerJsonOption = False,
) -> None:
    """Measure the accuracy of a network, averaging scores over clips and crops.

    Videos without labels are scored too; write their predictions with --scores or --submission.

    Example: kinema evaluate runs/x/best --data val.csv --root videos --protocol 10x3
    """
    known = ("32", "bf16", "auto") if fast else ("32", "bf16")
    if precision not in (None, *known):
        raise typer.BadParameter(
            f"expected {' or '.join(known)}, got {precision!r}", param_hint="--precision"
        )
    files = score_files(scores, submission, form, annotations=format_)
    from kinema.data.annotations import read_annotations
    from kinema.data.dataset import VideoDataset
    from kinema.evaluation.evaluate import evaluate as run_protocol
    from kinema.inference.predict import check_finite
    from kinema.recognizer import Recognizer
    from kinema.report.submission import check_submission

    chosen, views = _chosen_views(
        protocol,
        clips,
        crops,
        full_resolution=full_resolution,
        twice_sample=twice_sample,
        uniform_sample=uniform_sample,
    )
    tables = _table_writers(out)
    if fast:
        show_log()  # logs the chosen form of the network
    recognizer = Recognizer.load(find_checkpoint(checkpoint), device=device)
    folder = videos_folder(data, root)
    rows = read_annotations(
        data, format=format_, root=folder, classes=recognizer.labels, split=split, subset="test"
    )
    _check_labels(rows, accuracy_only=scores is None and submission is None, tables=out)
    if files.form is not None:
        check_submission([s.path for s in rows.samples], rows.class_names, form=files.form)
    how = _preprocessing(recognizer.preprocessing, chosen, average)
    try:
        with progress_bar("evaluating") as progress:
            report = run_protocol(
                recognizer.net,
                VideoDataset(rows, folder, how),
                views=views,
                batch_views=batch,
                workers=workers,
                unreadable="skip" if skip_unreadable else "error",
                precision=cast("WantedPrecision | None", precision),
                fast=fast,
                progress=progress,
            )
    except UnreadableVideoError as error:
        if skip_unreadable:
            raise
        raise UnreadableVideoError(f"{error} On the command line: --skip-unreadable.") from error
    check_finite(report.scores, str(data))
    times = _times(recognizer.net, views, how) if measure else None
    document = {}
    if as_json or out is not None:
        document = {
            **_document(report),
            "network": recognizer.net.spec.to_dict(),
            "protocol": protocol,
            "preprocessing": how.to_dict(),
            "per_video": _cost_per_video(recognizer.net, views, how),
            "measured": times,
        }
    if as_json:
        print_json(document)
    else:
        _print(report)
        print_times(times or [])
    files.write(report)
    for file, write in tables.items():
        write(report, file)
    if out is not None:
        write_whole(out / RESULTS_FILE, json.dumps(document, indent=2) + "\n")
        notes().print(f"Results, tables and confusion matrix: {out}")


def _chosen_views(
    name: str | None,
    clips: int | None,
    crops: int | None,
    *,
    full_resolution: bool,
    twice_sample: bool,
    uniform_sample: bool,
) -> tuple["Protocol | None", "Views"]:
    """Views of the named protocol, else those of the separate options."""
    from kinema.evaluation.protocols import protocol_named
    from kinema.values import Views

    if name is None:
        return None, Views(
            clips=clips or 1,
            crops=crops or 1,
            full_resolution=full_resolution,
            twice_sample=twice_sample,
            uniform_sample=uniform_sample,
        )
    protocol = protocol_named(name)
    own = protocol.views
    for what, given, fixed in (("clips", clips, own.clips), ("crops", crops, own.crops)):
        if given not in (None, fixed):
            raise typer.BadParameter(
                f"{name} has {fixed} {what}, not {given}", param_hint=f"--{what}"
            )
    if full_resolution and not own.full_resolution:
        raise typer.BadParameter(
            f"{name} has crops of {protocol.crop_px}", param_hint="--full-resolution"
        )
    for what, given, fixed in (
        ("twice", twice_sample, own.twice_sample),
        ("uniform", uniform_sample, own.uniform_sample),
    ):
        if given and not fixed:
            raise typer.BadParameter(
                f"{name} has clips at other places", param_hint=f"--{what}-sample"
            )
    return protocol, own


def _check_labels(rows: "Annotations", *, accuracy_only: bool, tables: Path | None) -> None:
    """Raises if no video has a label and no option asks for anything besides accuracies."""
    if any(sample.label is not None for sample in rows.samples):
        return
    if accuracy_only or tables is not None:
        raise OptionError(
            f"{rows.source} has no labels, so there is no accuracy"
            f"{' and no table of it (--out)' if tables is not None else ''}. Write the "
            "predictions with --scores or --submission."
        )


def _preprocessing(
    own: "Preprocessing", protocol: "Protocol | None", average: str | None
) -> "Preprocessing":
    """Preprocessing with the sizes of the protocol; prints them if training used others."""
    if average is not None:
        own = replace(own, average=cast("AverageName", average))
    if protocol is None:
        return own
    how = protocol.applied_to(own)
    if how != own:
        notes().print(
            f"Protocol {protocol.name}: short side {how.short_side_px}, crops of {how.crop_px} "
            f"(training: {own.short_side_px}, {own.crop_px})"
        )
    return how


def _table_writers(out: Path | None) -> dict[Path, Callable[["Report", Path], object]]:
    """Files to write, with their writers; checks names and extras before the evaluation."""
    if out is None:
        return {}
    from kinema.report.plots import draw_confusion
    from kinema.report.tables import write_confusion_csv, write_per_class_csv

    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is a file, expected a folder", param_hint="--out")
    writers: dict[Path, Callable[[Report, Path], object]] = {
        out / "per_class.csv": write_per_class_csv,
        out / "confusion.csv": write_confusion_csv,
        out / "confusion.png": draw_confusion,
    }
    for file in (*writers, out / RESULTS_FILE):
        check_new(file, "--out")
    return writers


def _cost_per_video(
    net: "VideoNetwork", views: "Views", how: "Preprocessing"
) -> dict[str, object] | None:
    """GMACs; None if the frames differ in size, or if a user's module reads values of tensors."""
    side_px = views.side_px(how)
    if side_px is None:
        return None
    try:
        return asdict(net.cost(side_px).per_video(views))
    except RuntimeError as error:  # costs are counted without values; the accuracy is still valid
        notes().print(f"The cost per video is not counted: {error}")
        return None


def _times(
    net: "VideoNetwork", views: "Views", how: "Preprocessing"
) -> list[dict[str, object]] | None:
    """Times of forward passes; None if the frames differ in size."""
    from kinema.bench.models import time_network

    side_px = views.side_px(how)
    if side_px is None:
        notes().print("Nothing is timed: the frames differ in size from video to video.")
        return None
    return time_network(net, side_px, views=views.count)


def _document(report: "Report") -> dict[str, object]:
    return {
        "top1": report.top1,
        "top5": report.top5,
        "mean_class": report.mean_class,
        "videos": report.videos,
        "views": asdict(report.views),
        "skipped": [asdict(skipped) for skipped in report.skipped],
        "per_class": [
            {"name": c.name, "videos": c.videos, "accuracy": c.accuracy} for c in report.per_class
        ],
    }


def _print(report: "Report") -> None:
    from kinema.report.tables import per_class_table, summary_table

    out = results()
    if report.top1 is None:
        out.print(f"{report.videos} videos scored; no labels, so no accuracy")
    else:
        out.print(summary_table(report))
        out.print(per_class_table(report))
    for skipped in report.skipped:
        notes().print(f"Skipped: {skipped.reason}", soft_wrap=True)
