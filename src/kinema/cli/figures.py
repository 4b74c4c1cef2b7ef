"""`kinema figures`: the papers' figures from one's own networks, clips and results."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinema.cli.console import (
    CheckpointArgument,
    DeviceOption,
    JsonOption,
    find_checkpoint,
    notes,
    parse_numbers,
    progress_bar,
)
from kinema.cli.figure_files import OutOption, OverwriteOption, check_new, finish, one_for_each

if TYPE_CHECKING:
    from kinema.figures.capture import ModuleKind
    from kinema.figures.shown_clip import ShownClip
    from kinema.recognizer import Recognizer

app = typer.Typer(
    no_args_is_help=True,
    help="Draw the papers' figures as PNG, with the numbers behind them in a file beside it.",
)

ClipsArgument = Annotated[list[Path], typer.Argument(help="Videos, folders of videos or frames.")]
BlockOption = Annotated[
    str | None,
    typer.Option(help="Block, such as res2.0; by default the first one with the module."),
]
ResultsArgument = Annotated[Path, typer.Argument(help="results.json of `kinema sweep`.")]
TestOption = Annotated[str, typer.Option(help="Which test of the sweep.")]


@app.command()
def me(
    checkpoint: CheckpointArgument,
    clips: ClipsArgument,
    out: OutOption,
    block: BlockOption = None,
    channels: Annotated[
        str | None,
        typer.Option(help="Channels, such as 3,17; by default two of highest and two of lowest A."),
    ] = None,
    overwrite: OverwriteOption = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw features before and after ME, MEM, SME or SE, with the channels' attention.

    One picture for each clip: channels in rows, frames in columns.

    Example: kinema figures me runs/x/best clip.mp4 --out figures
    """
    wanted = None
    if channels is not None:
        wanted = parse_numbers(channels, int, "--channels", wanted="numbers such as 3,17")
    from kinema.figures import clip_figures as figure
    from kinema.figures.channel_attention import ATTENTION, channel_attention

    recognizer, shown = _load(checkpoint, clips, device, needs=ATTENTION)
    files = one_for_each("me", shown, out, overwrite=overwrite)
    net, rows = recognizer.net, []
    for one, (png, npz) in zip(shown, files, strict=True):
        seen = channel_attention(net, one.clip, block=block, source=str(checkpoint))
        chosen = figure.choose_channels(seen, wanted)
        figure.draw_attention(one, seen, chosen, network=net.name, out=png)
        figure.write_attention(one, seen, chosen, npz)
        row = {"path": str(one.path), "block": seen.block, "module": seen.module}
        rows.append({**row, "channels": figure.attention_summary(seen, chosen)})
    finish("me", [file for pair in files for file in pair], rows, as_json=as_json)


@app.command()
def tam_kernels(
    checkpoint: CheckpointArgument,
    clips: ClipsArgument,
    out: OutOption,
    block: Annotated[
        list[str] | None,
        typer.Option(
            help="Block, such as res4.5 (repeatable); by default the last one of each stage."
        ),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="Clips, a network, or NETWORK,CLIPS to show side by side with the first ones "
            "(repeatable). A network alone gets the first clips, clips alone the first network."
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="Names in the figures, of CHECKPOINT with CLIPS and of each --beside in their "
            "order (repeatable); by default what they differ in."
        ),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            help="Network with temporal convolutions, such as I3D, to show beside (repeatable)."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the kernels and gates that TAM makes for clips.

    Three pictures: violins by offset, distributions of gates and kernels, and, of two or more
    clips, kernel weights at t = 0 beside frames of the clips. With --beside, two data sets or two
    networks stand side by side. Clips of a folder, such as a class, stand beside each other.

    Example: kinema figures tam-kernels runs/tam/best clips/ --beside other_clips/ --out figures
    """
    from kinema.cli.figure_sets import read_sets
    from kinema.figures import kernel_figures as figure
    from kinema.figures import tam_kernels as kernels
    from kinema.figures.adaptive_kernels import ADAPTIVE
    from kinema.models.saved import load_saved
    from kinema.report.tables import write_rows_csv

    sets = read_sets(checkpoint, clips, beside or (), label or ())
    convolutions = [(path, load_saved(find_checkpoint(path)).net) for path in against or ()]
    loaded = [_load(one.checkpoint, one.clips, device, needs=ADAPTIVE) for one in sets]
    drawings: dict[str, Callable[..., bytes]] = {
        "violins": figure.draw_violins,
        "distributions": figure.draw_distributions,
        "motion": figure.draw_motion,
    }
    if sum(len(shown) for _, shown in loaded) == 1:
        notes().print("One clip: there is no figure about motion, which compares clips.")
        del drawings["motion"]
    pngs = [out / f"tam_kernels_{name}.png" for name in drawings]
    npz, table = out / "tam_kernels.npz", out / "tam_kernels.csv"
    check_new([*pngs, npz, table], overwrite=overwrite)
    studies: list[kernels.KernelStudy] = []
    for one, (recognizer, shown) in zip(sets, loaded, strict=True):
        blocks = list(studies[0].made) if studies else block
        names = {"label": one.label, "source": str(one.checkpoint)}
        studies.append(kernels.study_kernels(recognizer.net, shown, blocks=blocks, **names))
    shared = [
        kernels.study_shared(net, studies[0].made, source=str(path)) for path, net in convolutions
    ]
    for name, draw in drawings.items():
        png = out / f"tam_kernels_{name}.png"
        draw(studies, shared, png) if name == "violins" else draw(studies, png)
    rows = kernels.kernel_summary(studies, shared)
    kernels.write_kernels(studies, shared, npz)
    write_rows_csv(rows, table)
    finish("tam-kernels", [*pngs, npz, table], rows, as_json=as_json)


@app.command()
def tsi_alignment(
    checkpoint: CheckpointArgument,
    clips: ClipsArgument,
    out: OutOption,
    block: BlockOption = None,
    pair: Annotated[
        list[int] | None,
        typer.Option(help="t of the frames t and t+1, from 0 (repeatable); by default the middle."),
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option(
            help="Place X,Y in frame t as shares of its width and height, such as 0.5,0.3 "
            "(repeatable, up to six); by default three where the frames differ most."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw what places of a frame find in the next one: TSI's saliency alignment.

    Each clip and pair of frames has two rows: frames, similarity matrix, features and frame before
    and after alignment; and the similarity of each place. Clips of a folder, such as a class, stand
    beside each other.

    Example: kinema figures tsi-alignment runs/tsi/best a.mp4 b.mp4 --out figures
    """
    places = [_place(text) for text in query or ()] or None
    from kinema.figures import clip_figures as figure
    from kinema.figures.alignment import ALIGNING, align_frames
    from kinema.figures.shown_clip import beside_by_folder

    recognizer, shown = _load(checkpoint, clips, device, needs=ALIGNING)
    png, npz = out / "tsi_alignment.png", out / "tsi_alignment.npz"
    check_new([png, npz], overwrite=overwrite)
    align = partial(align_frames, recognizer.net, frame_pairs=pair, queries=places, block=block)
    pairs = [
        (one, found)
        for one in beside_by_folder(shown)
        for found in align(one.clip, source=str(checkpoint))
    ]
    figure.draw_alignment(pairs, network=recognizer.net.name, out=png)
    figure.write_alignment(pairs, npz)
    finish("tsi-alignment", [png, npz], figure.alignment_summary(pairs), as_json=as_json)


@app.command()
def cam(
    checkpoint: CheckpointArgument,
    clips: ClipsArgument,
    out: OutOption,
    layer: Annotated[
        str | None,
        typer.Option(help="Layer, such as layer4.1, or stage, such as res5; by default the last."),
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", help="Class name or number; by default each clip's best."),
    ] = None,
    overwrite: OverwriteOption = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw where in each frame the evidence for a class is: Grad-CAM.

    One picture for each clip.

    Example: kinema figures cam runs/x/best clip.mp4 --class "drinking tea" --out figures
    """
    from kinema.figures import clip_figures as figure
    from kinema.figures.grad_cam import grad_cam

    recognizer, shown = _load(checkpoint, clips, device)
    net, labels, rows = recognizer.net, recognizer.labels, []
    classes = None if class_name is None else [_label(class_name, labels)]
    files = one_for_each("cam", shown, out, overwrite=overwrite)
    for one, (png, npz) in zip(shown, files, strict=True):
        maps = grad_cam(net, one.clip, classes=classes, layer=layer, source=str(checkpoint))
        figure.draw_cam(one, maps, labels, network=net.name, out=png)
        figure.write_cam(one, maps, npz)
        rows.append({"path": str(one.path), **figure.cam_summary(maps, labels)})
    finish("cam", [file for pair in files for file in pair], rows, as_json=as_json)


@app.command()
def accuracy_cost(
    files: Annotated[list[Path], typer.Argument(help="results.json of `kinema sweep`.")],
    out: OutOption,
    times: Annotated[
        Path | None, typer.Option(help="Measurement of `kinema bench model --out`.")
    ] = None,
    form: Annotated[
        str | None, typer.Option(help="Form of the networks in --times, such as fused-bf16.")
    ] = None,
    test: TestOption = "val",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw accuracy against GFLOPs and, with --times, against measured time.

    Example: kinema figures accuracy-cost runs/motion_networks/results.json --out figures
    """
    if form is not None and times is None:
        raise typer.BadParameter("goes with --times", param_hint="--form")
    from kinema.figures.accuracy_cost import cost_points, draw_accuracy_cost, read_times
    from kinema.sweep.summary import read_summary

    measured = None if times is None else read_times(times, form)
    points = cost_points([read_summary(file) for file in files], test=test, times=measured)
    untimed = [point.variant for point in points if point.clip_ms is None]
    if measured is not None and untimed:
        notes().print(f"Without a time of their own: {', '.join(untimed)}")
    draw = partial(draw_accuracy_cost, points, test=test, times=measured)
    _finish_sweeps("accuracy-cost", points, draw, out, overwrite=overwrite, as_json=as_json)


@app.command()
def sweep(
    file: ResultsArgument,
    out: OutOption,
    option: Annotated[
        str | None,
        typer.Option(
            help="Setting across, such as model.options.ratio; by default the one in which all "
            "variants differ, else their names."
        ),
    ] = None,
    test: TestOption = "val",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw accuracy and parameters against the option that a sweep has varied.

    Example: kinema figures sweep runs/gte_share/results.json --out figures
    """
    from kinema.report.sweeps import draw_option, option_points, varied_option
    from kinema.sweep.summary import read_summary

    document = read_summary(file)
    option = option or varied_option(document)
    points = option_points(document, option, test=test)
    draw = partial(draw_option, points, option, title=document["title"], test=test)
    _finish_sweeps("sweep", points, draw, out, overwrite=overwrite, as_json=as_json)


def _finish_sweeps(
    figure: str,
    points: Sequence[Any],
    draw: Callable[..., bytes],
    out: Path,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draws the points of sweeps and writes them as CSV beside."""
    from kinema.report.tables import write_rows_csv

    png, table = (out / f"{figure.replace('-', '_')}.{end}" for end in ("png", "csv"))
    check_new([png, table], overwrite=overwrite)
    draw(out=png)
    rows = [asdict(point) for point in points]
    write_rows_csv(rows, table)
    finish(figure, [png, table], rows, as_json=as_json)


def _load(
    checkpoint: Path,
    videos: Sequence[Path],
    device: str | None,
    *,
    needs: "ModuleKind | None" = None,
) -> tuple["Recognizer", list["ShownClip"]]:
    """The network, which has the modules, and all clips: errors come before anything is drawn."""
    from kinema.data.listing import list_videos
    from kinema.figures.capture import find_modules
    from kinema.figures.shown_clip import read_shown_clip
    from kinema.recognizer import Recognizer

    recognizer = Recognizer.load(find_checkpoint(checkpoint), device=device)
    if needs is not None:
        find_modules(recognizer.net, needs, source=str(checkpoint))
    paths = list(list_videos(videos))
    shown = []
    with progress_bar("reading") as progress:
        for done, path in enumerate(paths, start=1):
            shown.append(read_shown_clip(path, recognizer.preprocessing))
            progress(done, len(paths))
    return recognizer, shown


def _place(text: str) -> tuple[float, float]:
    x, y = parse_numbers(text, float, "--query", wanted="two shares such as 0.5,0.3", count=2)
    return x, y


def _label(text: str, labels: Sequence[str]) -> int:
    """The number of a class given by its name or number."""
    from kinema.errors import UnknownNameError, did_you_mean

    if text in labels:
        return labels.index(text)
    if text.isdecimal() and int(text) < len(labels):
        return int(text)
    raise UnknownNameError(
        f"The network has no class {text!r} (numbers: 0 to {len(labels) - 1}). "
        + did_you_mean(text, labels)
    )
