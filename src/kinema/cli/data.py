"""`kinema data`: render, check, convert and prepare data sets."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kinema.cli.console import JsonOption, notes, print_json, progress_bar, results

if TYPE_CHECKING:
    from kinema.data.check import CheckReport
    from kinema.data.dataset import VideoDataset
    from kinema.data.prepare import PrepareReport

EmptyClasses = Literal["error", "allow"]

app = typer.Typer(no_args_is_help=True, help="Render, check, convert and prepare data sets.")

FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        help="Annotation format: csv, folders, video_list, rawframe_list, kinetics, sthv1, sthv2, "
        "jester, ucf101, hmdb51, diving48, moments_in_time or one of a --plugin.",
    ),
]
ClassesOption = Annotated[
    Path | None,
    typer.Option(
        help="Class names, for formats without them: a file, or a class list such as kinetics400."
    ),
]
RootOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the videos.", show_default="folder of the annotations"),
]
SplitOption = Annotated[int, typer.Option(help="Split of HMDB51: 1, 2 or 3.")]
SubsetOption = Annotated[str, typer.Option(help="Subset of HMDB51: train or test.")]


@app.command("synth")
def synth(
    out: Annotated[Path, typer.Argument(help="Output folder.")],
    train: Annotated[int, typer.Option(help="Training videos per class.", min=1)] = 80,
    val: Annotated[int, typer.Option(help="Validation videos per class.", min=1)] = 12,
    size: Annotated[int, typer.Option(help="Height and width of the frames in pixels.")] = 96,
    camera: Annotated[float, typer.Option(help="Amount of camera pan and shake, 0 to 1.")] = 0.15,
    speed_range: Annotated[
        float,
        typer.Option(help="Ratio of the fastest to the slowest motion; 1 for equal speeds."),
    ] = 1.5,
    scale_range: Annotated[
        float,
        typer.Option(help="Ratio of the largest to the smallest motion; 1 for equal extents."),
    ] = 1.3,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Render the synthetic motion set: real videos whose classes differ only in motion.

    Example: kinema data synth motion --train 100 --camera 0.5
    """
    from kinema.synthetic.motion import MOTION_CLASSES
    from kinema.synthetic.motion_set import MotionSettings, render_motion_set

    settings = MotionSettings(
        train_per_class=train,
        val_per_class=val,
        size_px=size,
        camera=camera,
        speed_range=speed_range,
        scale_range=scale_range,
        seed=seed,
    )
    with progress_bar("rendering") as progress:
        folder = render_motion_set(out, settings=settings, progress=progress)
    videos = len(MOTION_CLASSES) * (train + val)
    if as_json:
        print_json({"out": str(folder), "videos": videos, "classes": list(MOTION_CLASSES)})
    else:
        results().print(f"{videos} videos of {len(MOTION_CLASSES)} classes in {folder}")


@app.command("check")
def check(
    annotations: Annotated[
        list[Path], typer.Argument(help="Annotation files, such as train.csv val.csv.")
    ],
    root: RootOption = None,
    format_: FormatOption = "csv",
    classes: ClassesOption = None,
    split: SplitOption = 1,
    min_frames: Annotated[int, typer.Option(help="Minimum number of frames of a video.")] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Decode every frame instead of only the last one.")
    ] = False,
    empty_classes: Annotated[
        EmptyClasses,
        typer.Option(help="allow accepts a list of one class, or with most classes empty."),
    ] = "error",
    as_json: JsonOption = False,
) -> None:
    """Find unreadable, short, duplicate and wrongly labeled videos, and doubtful labels.

    The exit code is 1 if any video is bad, or if the labels of the first list cannot be right, at
    which training would stop.

    Example: kinema data check train.csv val.csv --root videos
    """
    from kinema.data.annotations import read_annotations
    from kinema.data.check import check_dataset
    from kinema.data.dataset import VideoDataset

    splits: dict[str, VideoDataset] = {}
    names: Path | tuple[str, ...] | None = classes
    for file in annotations:
        folder = videos_folder(file, root)
        rows = read_annotations(file, format=format_, root=folder, classes=names, split=split)
        names = rows.class_names
        splits[str(file)] = VideoDataset(rows, folder)
    with progress_bar("checking") as progress:
        report = check_dataset(splits, min_frames=min_frames, strict=strict, progress=progress)
    if not as_json:
        _print_classes(splits)
    _print_check(report, as_json=as_json)
    if report.bad:
        folders = sorted({str(videos.root) for videos in splits.values()})
        notes().print(f"Paths are relative to {' and '.join(folders)}; change it with --root")
    would_stop = empty_classes == "error" and any(
        doubt.split == str(annotations[0]) for doubt in report.doubtful
    )
    if would_stop:
        notes().print(
            f"Training with {annotations[0]} would stop: mend its labels or --classes, or accept "
            "them with --empty-classes allow (data.empty_classes=allow in a training)"
        )
    if report.bad or would_stop:
        raise typer.Exit(1)


@app.command("convert")
def convert(
    annotations: Annotated[Path, typer.Argument(help="Annotation file or folder.")],
    out: Annotated[Path, typer.Argument(help="Output CSV file.")],
    format_: FormatOption = "csv",
    root: Annotated[Path | None, typer.Option(help="Folder of the videos, for kinetics.")] = None,
    classes: ClassesOption = None,
    split: SplitOption = 1,
    subset: SubsetOption = "train",
    as_json: JsonOption = False,
) -> None:
    """Convert annotations of any format to a plain CSV (path, label, start_frame, frames).

    The class list is written beside it, such as train.classes.txt for train.csv.

    Example: kinema data convert trainlist01.txt train.csv --format ucf101
    """
    from kinema.data.annotations import read_annotations, write_csv
    from kinema.data.classes import class_list_text
    from kinema.system.files import cut_name, whole_file, write_whole

    class_list = out.with_name(cut_name(out.stem, ".classes.txt"))
    for file in (out, class_list):
        if file.exists():
            raise typer.BadParameter(f"{file} already exists", param_hint="OUT")
    rows = read_annotations(
        annotations, format=format_, root=root, classes=classes, split=split, subset=subset
    )
    with whole_file(out) as partial:
        write_csv(rows, partial)
    if rows.class_names:
        write_whole(class_list, class_list_text(rows.class_names))
    if as_json:
        document = {"out": str(out), "videos": len(rows.samples), "classes": len(rows.class_names)}
        print_json(document)
    else:
        results().print(f"{len(rows.samples)} videos of {len(rows.class_names)} classes in {out}")
        if format_ == "folders":
            notes().print(f"Its paths are relative to {annotations}: use --root {annotations}")


@app.command("prepare")
def prepare(
    annotations: Annotated[Path, typer.Argument(help="Annotation file or folder.")],
    out: Annotated[Path, typer.Option(help="Output folder of the copies.")],
    root: RootOption = None,
    short_side: Annotated[int, typer.Option(help="Short side of the copies in pixels.")] = 256,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes.", min=0, show_default="one per core")
    ] = None,
    format_: FormatOption = "csv",
    classes: ClassesOption = None,
    split: SplitOption = 1,
    subset: SubsetOption = "train",
    as_json: JsonOption = False,
) -> None:
    """Transcode the videos to small frames that decode fast.

    Frame numbers and relative paths stay the same, so the annotations work with the copies when
    only --root changes. Run the same command again to continue an interrupted one. The exit code
    is 1 if any video is bad.

    Example: kinema data prepare train.csv --root videos --out videos256
    """
    from kinema.data.annotations import read_annotations
    from kinema.data.dataset import VideoDataset
    from kinema.data.prepare import PrepareSettings, prepare_dataset

    folder = videos_folder(annotations, root)
    rows = read_annotations(
        annotations, format=format_, root=folder, classes=classes, split=split, subset=subset
    )
    settings = PrepareSettings(short_side_px=short_side)
    with progress_bar("copying") as progress:
        report = prepare_dataset(
            VideoDataset(rows, folder), out, settings=settings, workers=workers, progress=progress
        )
    _print_prepared(report, out, as_json=as_json)
    if report.bad:
        raise typer.Exit(1)


def videos_folder(annotations: Path, root: Path | None) -> Path:
    """Folder of the videos: `--root`, else the folder of the annotations."""
    return root or (annotations if annotations.is_dir() else annotations.parent)


def _print_prepared(report: "PrepareReport", out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(report))
        return
    for bad in report.bad:
        notes().print(f"{bad.path}: {bad.reason}")
    before, after = report.bytes_before / 1e6, report.bytes_after / 1e6
    results().print(
        f"{report.ok} of {report.videos} videos are in {out}: {before:.1f} MB -> {after:.1f} MB"
    )


_MAX_CLASS_ROWS = 60  # with more classes only the range of the counts is printed


def _print_classes(splits: dict[str, "VideoDataset"]) -> None:
    """Prints the number of videos of each class in each split."""
    from collections import Counter

    from kinema.report.tables import table_of

    counts = [Counter(s.label for s in videos.annotations.samples) for videos in splits.values()]
    *_, last = splits.values()
    names = last.annotations.class_names
    if len(names) > _MAX_CLASS_ROWS:
        for split, count in zip(splits, counts, strict=True):
            each = [count[label] for label in range(len(names))]
            results().print(f"{split}: {len(names)} classes of {min(each)} to {max(each)} videos")
        return
    table = table_of("class", *splits)
    for label, name in enumerate(names):
        table.add_row(name, *(str(count[label]) for count in counts))
    if any(None in count for count in counts):
        table.add_row("(no label)", *(str(count[None]) for count in counts))
    results().print(table)


def _print_check(report: "CheckReport", *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(report))
        return
    from kinema.report.tables import table_of

    if report.bad:
        table = table_of("split", "path", "problem")
        for bad in report.bad:
            table.add_row(bad.split, bad.path, bad.reason)
        results().print(table)
    results().print(f"{report.ok} of {report.videos} videos are good")
    for doubt in report.doubtful:
        results().print(f"{doubt.split}: {doubt.reason}. Are the labels right?")
    if report.bad:
        notes().print(f"{len(report.bad)} videos need attention")
