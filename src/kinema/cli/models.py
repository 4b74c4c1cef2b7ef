"""`kinema models`: lists networks, temporal modules and backbones."""

from typing import Annotated

import typer

from kinema.cli.console import JsonOption, print_json, results


def models(
    pattern: Annotated[str, typer.Argument(help="Shell-style pattern, such as 'tsm_*'.")] = "*",
    as_json: JsonOption = False,
) -> None:
    """List networks, temporal modules and backbones.

    A network is named <family>_<backbone>; most CNNs of timm can be the backbone.

    Example: kinema models 'tim_*50*'
    """
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
