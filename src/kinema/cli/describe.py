"""`kinema describe`: sites, parameters and multiply-accumulates of a network."""

import copy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import (
    ClipsOption,
    CropsOption,
    JsonOption,
    MeasureOption,
    OptionOption,
    find_checkpoint,
    parse_numbers,
    parse_options,
    print_json,
    print_times,
    results,
)

if TYPE_CHECKING:
    from kinema.models.network import VideoNetwork
    from kinema.values import Cost, Views


ModelArgument = Annotated[
    str,
    typer.Argument(
        help="Name of a network, such as tsm_resnet50, or a checkpoint folder, which takes no "
        "option but --size, --clips, --crops and --measure."
    ),
]
SizeOption = Annotated[
    int | None,
    typer.Option(
        help="Side of the frames in pixels.", min=16, show_default="224, or that of the checkpoint"
    ),
]
CLASSES, FRAMES = 400, 8
ClassesOption = Annotated[
    int | None, typer.Option(help="Number of classes.", min=1, show_default=str(CLASSES))
]
FramesOption = Annotated[
    int | None, typer.Option(help="Frames per clip.", min=1, show_default=str(FRAMES))
]
AtOption = Annotated[
    str | None,
    typer.Option(help="Position in a block: a (before conv1), b, c or d (before the addition)."),
]
StagesOption = Annotated[
    str | None,
    typer.Option(help="Stages (2 to 5) with temporal modules, such as 4,5, or efficient."),
]
BlocksOption = Annotated[
    str | None,
    typer.Option(help="Blocks per stage: all, first, even, a count, or block numbers such as 0,1."),
]
CausalOption = Annotated[
    bool, typer.Option("--causal", help="Build the causal form, in which no frame looks ahead.")
]
TemporalPoolOption = Annotated[
    bool, typer.Option("--temporal-pool", help="Halve the frames in front of res3, as TSM's code.")
]


def describe(
    model: ModelArgument,
    classes: ClassesOption = None,
    frames: FramesOption = None,
    size: SizeOption = None,
    clips: ClipsOption = 1,
    crops: CropsOption = 1,
    at: AtOption = None,
    stages: StagesOption = None,
    blocks: BlocksOption = None,
    causal: CausalOption = False,
    temporal_pool: TemporalPoolOption = False,
    option: OptionOption = None,
    measure: MeasureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the sites, parameters and multiply-accumulates of a network.

    Clips and crops give the cost of a test per video. Position, stages and blocks default to
    those of the paper.

    Example: kinema describe tim_resnet50 --classes 174 --stages 4,5
    """
    import torch

    from kinema.models.saved import CONFIG_FILE, load_saved
    from kinema.models.zoo import create_model
    from kinema.values import Views

    views = Views(clips=clips, crops=crops)
    model = str(find_checkpoint(Path(model)))
    if (Path(model) / CONFIG_FILE).is_file():
        own = (classes, frames, at, stages, blocks, option, causal or None, temporal_pool or None)
        if any(given is not None for given in own):
            raise typer.BadParameter(
                f"{model} is a checkpoint, for which only --size, --clips, --crops and --measure "
                "can be given"
            )
        saved = load_saved(model)
        net, size = saved.net, size or saved.preprocessing.crop_px
    else:
        with torch.device("cpu" if measure else "meta"):  # counting needs no weights
            net = create_model(
                model,
                classes=classes or CLASSES,
                frames=frames or FRAMES,
                at=at,
                stages=_stages(stages),
                blocks=_blocks(blocks),
                causal=causal,
                temporal_pool=temporal_pool,
                **parse_options(option),
            )
    cost = net.cost(size or 224)
    times = None
    if measure:
        from kinema.bench.models import time_network

        times = time_network(net, cost.size_px, views=views.count)
    if as_json:
        print_json({**_document(net, cost, views), "measured": times})
    else:
        _print(net, cost, views)
        print_times(times or [])


def _stages(text: str | None) -> tuple[int, ...] | str | None:
    if text is None or text.isalpha():
        return text
    return parse_numbers(text, int, "--stages", wanted="numbers such as 4,5")


def _blocks(text: str | None) -> tuple[int, ...] | str | int | None:
    if text is None or text.replace("_", "").isalpha():
        return text
    numbers = parse_numbers(text, int, "--blocks", wanted="numbers such as 4,5")
    return numbers if "," in text else numbers[0]


def _macs_ratio(net: "VideoNetwork", cost: "Cost") -> float:
    """MACs relative to those of the network without temporal modules, the 2D network."""
    plain = copy.deepcopy(net)
    if plain.inserted():
        plain.remove()
    return cost.macs / plain.cost(cost.size_px).macs


def _document(net: "VideoNetwork", cost: "Cost", views: "Views") -> dict[str, object]:
    counts = asdict(cost)
    modules = counts.pop("sites")
    shown = ("stage", "block", "at", "channels", "modules")
    return {
        "model": net.name,
        **counts,
        "per_video": asdict(cost.per_video(views)),
        "macs_ratio": _macs_ratio(net, cost),
        "temporal_pool": net.spec.temporal_pool,
        "snippet": net.snippet,
        "receptive_field": net.reach.receptive_field,
        **asdict(net.reach),
        "backend": _backend()[0],
        "sites": [{key: getattr(site, key) for key in shown} for site in net.sites()],
        "modules": modules,
    }


def _print(net: "VideoNetwork", cost: "Cost", views: "Views") -> None:
    from kinema.report.tables import table_of

    out = results()
    out.print(net.name, style="bold", end="  ")
    of = f"snippets of {net.snippet} " if net.snippet > 1 else ""
    side = f"{cost.size_px} x {cost.size_px} px"
    out.print(f"{net.classes} classes, {cost.frames} {of}frames of {side}")
    for title, total, temporal in (
        ("Parameters", cost.params, cost.temporal_params),
        ("MACs", cost.macs, cost.temporal_macs),
    ):
        share = f"{temporal:,} ({temporal / total:.2%})"
        out.print(f"{title:<16}{total:>16,}  in temporal modules {share}")
    video = cost.per_video(views)
    out.print(
        f"{'Per video':<16}{video.gmacs_per_view:.2f} GMACs x {video.views} "
        f"{'view' if video.views == 1 else 'views'} = {video.gmacs:.2f} GMACs, "
        f"{_macs_ratio(net, cost):.3f} times those of the 2D network"
    )
    if net.spec.temporal_pool:
        out.print(f"{'Temporal pool':<16}in front of res3: {net.frames // 2} frames from there on")
    _print_reach(net)
    table = table_of("site", "module", ">parameters", ">MACs", title="Temporal modules")
    for module in cost.sites:
        place = module.place or module.site
        table.add_row(place, module.module, f"{module.params:,}", f"{module.macs:,}")
    if table.rows:
        out.print(table)
    sites = net.sites()
    positions = dict.fromkeys(site.at for site in sites)
    out.print(f"{len(sites)} sites, positions: {', '.join(positions) or 'none'}")
    out.print(
        "MACs are for one view: convolutions, linear layers, matrix products (also attention) "
        "and dynamic kernels."
    )


def _print_reach(net: "VideoNetwork") -> None:
    out, reach = results(), net.reach
    if reach.receptive_field is None:
        field = "the whole clip" + ("" if reach.look_ahead is None else ", never ahead")
    else:
        frames = "1 frame" if reach.receptive_field == 1 else f"{reach.receptive_field} frames"
        field = f"{frames}: {reach.look_back} back, {reach.look_ahead} ahead"
    out.print(f"{'Sees':<16}{field}")
    fixed = f"only {net.frames} frames" if reach.frames_in_weights else "any number of frames"
    out.print(f"{'Runs':<16}{fixed}")
    backend, device = _backend()
    out.print(f"{'Backend':<16}{backend} on {device}")


def _backend() -> tuple[str, str]:
    """The backend of the temporal modules on this machine, and its device."""
    from kinema.system.machine import find_device
    from kinema.temporal.kernels.dispatch import backend_name

    device = find_device()
    return backend_name(device), device.type
