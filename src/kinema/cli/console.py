"""What all commands share: where they print, and what they accept."""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

CheckpointArgument = Annotated[
    Path, typer.Argument(help="Folder of a network, such as runs/x/best.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of tables.")
]
ClipsOption = Annotated[
    int, typer.Option(help="Clips spread over each video; their scores are averaged.", min=1)
]
CropsOption = Annotated[
    int,
    typer.Option(help="Crops of each clip: 1 (center), 3 (long side) or 10 (corners, mirrored)."),
]
BackgroundOption = Annotated[
    list[str] | None, typer.Option(help="Class that means that nothing happens (repeatable).")
]
FastOption = Annotated[
    bool,
    typer.Option("--fast", help="Run what is fastest on this machine, measured on first use."),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="Where to compute, as cpu or cuda:1; by default on a GPU if there is one."),
]


# Columns where stdout or stderr is no terminal: nothing is wrapped or cut in a file or pipe.
FILE_COLUMNS = 1000
# Seconds between two lines about progress there.
LINE_EVERY_S = 60.0


def results() -> Console:
    """Results go to stdout; brackets in names are no markup."""
    return _console(sys.stdout)


def notes() -> Console:
    """Everything else goes to stderr."""
    return _console(sys.stderr)


def say_error(message: str) -> None:
    """An error that the user can mend, on stderr."""
    notes().print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)


def print_json(document: Any) -> None:
    """Prints the one document of `--json`."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


class _Notes(logging.Handler):
    """Log lines go to what stderr is at that moment: above a progress bar while one is shown.

    A bar puts itself in the place of `sys.stderr`; a console would go around it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")


def show_log() -> None:
    """Shows what the library logs: kinema from INFO on, everything else from WARNING on."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[_Notes()])
    logging.getLogger("kinema").setLevel(logging.INFO)


@contextmanager
def goes_on(how: str) -> Iterator[None]:
    """Says on Ctrl-C what makes the work inside go on where it was."""
    try:
        yield
    except KeyboardInterrupt:
        notes().print(f"To go on: {how}")
        raise


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, or without a terminal a line each minute; call it with (done, total)."""
    if not sys.stderr.isatty():
        yield _line_each_minute(title)
        return
    bar = Progress(
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=notes(),
        transient=True,
    )
    task = bar.add_task(title, total=None)
    with bar:
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _line_each_minute(title: str) -> Callable[[int, int], None]:
    told_s = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told_s
        if time.monotonic() - told_s >= LINE_EVERY_S:
            told_s = time.monotonic()
            notes().print(f"{title}: {done} of {total}")

    return tell


def _console(stream: TextIO) -> Console:
    width = None if stream.isatty() else FILE_COLUMNS
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=width)
