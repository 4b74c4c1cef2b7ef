"""`kinema train`: trains a network from a recipe."""

import shlex
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from kinema.cli.console import JsonOption, notes, print_json, results, resume_hint, show_log


def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="Recipe file (TOML).", show_default="with --resume that of the run"),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings to change, such as train.epochs=10.", metavar="KEY=VALUE"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default: runs/<recipe>-<date>.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Run folder to continue, interrupted or with a higher train.epochs."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a network on labeled videos.

    Writes a run folder with the full settings, metrics.jsonl, TensorBoard events, curves.png and
    the networks of the best and the last epoch.

    Example: kinema train recipes/own_videos.toml data.root=videos train.epochs=20
    """
    if out is not None and resume is not None:
        raise typer.BadParameter("give --out for a new run or --resume for an old one, not both")
    words = list(overrides or ())
    if resume is not None:
        if recipe is not None and "=" in str(recipe) and not recipe.exists():
            words.insert(0, str(recipe))  # the recipe was left out
            recipe = None
        recipe, folder = recipe or resume / "recipe.toml", resume
    elif recipe is None:
        raise typer.BadParameter("give a recipe, or --resume with a run folder")
    else:
        folder = out or Path("runs") / f"{recipe.stem}-{datetime.now():%Y%m%d-%H%M%S}"
    from kinema.report.plots import draw_curves
    from kinema.system.threads import choose_threads
    from kinema.train.loop import train as run_training
    from kinema.train.recipe import load_recipe

    show_log()
    settings = load_recipe(recipe, words)
    choose_threads(folder / "run.json")
    quoted = shlex.quote(str(folder))
    with resume_hint(f"kinema train {quoted}/recipe.toml --resume {quoted}"):
        result = run_training(
            settings,
            out=folder,
            resume=resume is not None,
            on_epoch=lambda run: draw_curves(run / "metrics.jsonl", run / "curves.png"),
        )
    if result.rank != 0:
        return
    if as_json:
        print_json(
            {
                "run": str(result.run),
                "epochs": result.epochs,
                "best": {"top1": result.best.top1, "epoch": result.best.epoch},
                "train_s": round(result.train_s, 1),
                "bound": result.bound,
                "skipped": result.skipped,
            }
        )
        return
    only_last = settings.train.keep == "last"
    network = f"{result.run}/{'last' if only_last else 'best'}"
    results().print(
        f"Best validation top-1 {100 * result.best.top1:.2f} % in epoch {result.best.epoch} "
        f"of {result.epochs}; {network} holds {'the last' if only_last else 'that'} network"
    )
    notes().print(f"Try it: kinema predict {shlex.quote(network)} VIDEO")
