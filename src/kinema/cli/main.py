"""The `kinema` program: command table, exit codes and error messages."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from kinema.cli import (
    bench,
    data,
    describe,
    embed,
    ensemble,
    evaluate,
    export,
    fetch,
    figures,
    import_checkpoint,
    label,
    models,
    papers,
    predict,
    push,
    quickstart,
    serve,
    stream,
    sweep,
    timeline,
    train,
)
from kinema.cli.console import notes, say_error
from kinema.errors import KinemaError
from kinema.system.files import system_error
from kinema.system.installation import naming_wrong_torchvision

# Environment variable of --plugin: files separated by spaces.
PLUGINS = "KINEMA_PLUGINS"
# Exit code of a program stopped by Ctrl-C.
INTERRUPTED = 130

app = typer.Typer(
    name="kinema",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        import kinema

        typer.echo(f"kinema {kinema.__version__}")
        raise typer.Exit


@app.callback()
def kinema(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_version, is_eager=True
        ),
    ] = False,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(
            help="Python file that registers temporal modules, backbones or formats.",
            envvar=PLUGINS,
        ),
    ] = None,
) -> None:
    """Action recognition in video: train, evaluate and predict.

    Start with [bold]kinema quickstart[/bold]. Results go to stdout, messages to stderr. Exit codes:
    0 success, 1 failure, 2 unknown or missing options. KINEMA_DEBUG=1 shows the traceback of an
    error.
    """
    if plugin:
        from kinema.plugin import load_plugin

        for file in plugin:
            load_plugin(file)
        # Training processes read the variable.
        os.environ[PLUGINS] = " ".join(str(file.resolve()) for file in plugin)


app.command("quickstart")(quickstart.quickstart)
app.command("models")(models.models)
app.command("describe")(describe.describe)
app.command("papers")(papers.papers)
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")
app.add_typer(figures.app, name="figures")
app.command("fetch")(fetch.fetch)
app.command("push")(push.push)
app.command("import")(import_checkpoint.import_checkpoint)
app.command("train")(train.train)
app.command("sweep")(sweep.sweep)
app.command("evaluate")(evaluate.evaluate)
app.command("ensemble")(ensemble.ensemble)
app.command("predict")(predict.predict)
app.command("embed")(embed.embed)
app.command("label")(label.label)
app.command("timeline")(timeline.timeline)
app.command("stream")(stream.stream)
app.command("export")(export.export)
app.command("serve")(serve.serve)


def run() -> None:
    """Entry point: turns an error that the user can fix into one message and exit code 1."""
    try:
        with naming_wrong_torchvision():
            app()
    except (KinemaError, OSError) as error:
        if os.environ.get("KINEMA_DEBUG"):
            raise
        say_error(system_error(error) if isinstance(error, OSError) else str(error))
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            notes().print("Interrupted.")
        raise


if __name__ == "__main__":
    run()
