"""`kinema describe`: what a network is made of and costs."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import JsonOption, print_json, results

if TYPE_CHECKING:
    from kinema.models.network import VideoNetwork
    from kinema.types import Cost


def describe(
    model: Annotated[str, typer.Argument(help="Name of a network, such as tsm_resnet50.")],
    classes: Annotated[int, typer.Option(help="Number of classes.", min=1)] = 400,
    frames: Annotated[int, typer.Option(help="Frames of a clip.", min=1)] = 8,
    size: Annotated[int, typer.Option(help="Side of the frames in pixels.", min=16)] = 224,
    stages: Annotated[
        str | None, typer.Option(help="Stages that get the temporal module, such as 4,5.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the sites, parameters and multiply-accumulates of a network.

    Example: kinema describe tim_resnet50 --classes 174 --stages 4,5
    """
    from kinema.models.zoo import create_model

    net = create_model(model, classes=classes, frames=frames, stages=_numbers(stages))
    cost = net.cost(size)
    if as_json:
        print_json(_document(net, cost))
    else:
        _print(net, cost)


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise typer.BadParameter(
            f"expected numbers such as 4,5, got {text!r}", param_hint="--stages"
        )
    return tuple(int(part) for part in parts)


def _document(net: "VideoNetwork", cost: "Cost") -> dict[str, object]:
    return {
        "model": net.name,
        "params": cost.params,
        "macs": cost.macs,
        "temporal_params": cost.temporal_params,
        "temporal_macs": cost.temporal_macs,
        "frames": cost.frames,
        "size_px": cost.size_px,
        "sites": [
            {
                "stage": site.stage,
                "block": site.block,
                "at": site.at,
                "channels": site.channels,
                "modules": list(site.modules),
            }
            for site in net.sites()
        ],
        "modules": [asdict(module) for module in cost.sites],
    }


def _print(net: "VideoNetwork", cost: "Cost") -> None:
    from rich.table import Table

    out = results()
    out.print(net.name, style="bold", end="  ")
    out.print(f"{net.classes} classes, {cost.frames} frames of {cost.size_px} x {cost.size_px} px")
    out.print(f"Parameters  {cost.params:>16,}  of them temporal {cost.temporal_params:,}")
    out.print(f"MACs        {cost.macs:>16,}  of them temporal {cost.temporal_macs:,}")
    table = Table("stage", "block", "position", "channels", "modules", title="Sites in use")
    sites = net.sites()
    for site in sites:
        if site.modules:
            table.add_row(
                f"res{site.stage}",
                str(site.block),
                site.at,
                str(site.channels),
                ", ".join(site.modules),
            )
    if table.rows:
        out.print(table)
    positions = dict.fromkeys(site.at for site in sites)
    out.print(f"{len(sites)} sites at the positions: {', '.join(positions) or 'none'}")
    out.print("MACs count convolutions, linear layers and matrix products of one view.")
