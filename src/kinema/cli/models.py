"""`kinema models`: lists networks, temporal modules and backbones."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinema.cli.console import JsonOption, notes, print_json, results

if TYPE_CHECKING:
    from kinema.models.published.catalog import PublishedNetwork


def models(
    pattern: Annotated[
        str, typer.Argument(help="Shell-style pattern, such as 'tsm_*' or '*:kinetics400*'.")
    ] = "*",
    published: Annotated[
        bool, typer.Option("--published", help="List trained networks that can be used by name.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List networks, temporal modules and backbones, or published networks.

    A network is named <family>_<backbone>; most CNNs of timm can be the backbone.

    Example: kinema models 'tim_*50*'
    """
    if published:
        _list_published(pattern, as_json=as_json)
        return
    from kinema.errors import UnknownNameError, did_you_mean
    from kinema.models.backbones import list_backbones
    from kinema.models.zoo import list_models
    from kinema.temporal import list_temporal

    names = list_models(pattern)
    if not names:
        near = did_you_mean(pattern, list_models())
        raise UnknownNameError(f"No network matches {pattern!r}. {near}")
    if as_json:
        print_json(names)
        return
    out = results()
    for name in names:
        out.print(name)
    if pattern == "*":
        out.print(f"\nTemporal modules: {', '.join(list_temporal())}")
        out.print(f"Backbones: {', '.join(list_backbones())}, and most CNNs of timm")


def _list_published(pattern: str, *, as_json: bool) -> None:
    from rich import box
    from rich.table import Table

    from kinema.models.published.catalog import list_published

    networks = list_published(pattern)
    if as_json:
        print_json([_document(network) for network in networks])
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("network", "also", "frames", "GMACs", "MB", "top-1", "state", "license", "from"):
        table.add_column(column, overflow="fold")
    for network in networks:
        table.add_row(*_cells(network))
    results().print(table)
    if all(network.state != "verified" for network in networks):
        notes().print(
            "None of them has been fetched and verified with kinema yet. Top-1 in percent, as "
            "printed by the publisher under its own protocol; --json has the protocols and what "
            "differs."
        )


def _cells(network: "PublishedNetwork") -> tuple[str, ...]:
    return (
        network.id,
        ", ".join(name.partition(":")[2] for name in network.names if name != network.id),
        str(network.frames),
        f"{network.gmacs:g}",
        "" if network.size_bytes is None else f"{network.size_bytes / 1e6:.0f}",
        f"{network.printed[0].top1:g}" if network.printed else "",
        network.state if network.sha256 or network.state == "manual" else "listed, no hash",
        network.license,
        network.publisher.name,
    )


def _document(network: "PublishedNetwork") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        **asdict(network),
        "data": network.data,
        "frames": network.frames,
        "differs": network.differences,
    }
