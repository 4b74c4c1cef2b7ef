"""Options, output streams and progress bars shared by all commands."""

import inspect
import json
import logging
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO, TypeVar

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.text import Text

from kinema.system.text import visible

CheckpointArgument = Annotated[
    Path,
    typer.Argument(
        help="Checkpoint folder, such as runs/x/best, published network, such as "
        "tsm_resnet50:kinetics400, or hf://OWNER/REPOSITORY."
    ),
]
VideosArgument = Annotated[
    list[str],
    typer.Argument(
        help="Video files, folders of videos or of frames, or s3://, gs:// and http(s):// "
        "addresses."
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of tables.")
]
ClipsOption = Annotated[
    int, typer.Option(help="Clips sampled evenly from each video; scores are averaged.", min=1)
]
CropsOption = Annotated[
    int,
    typer.Option(
        help="Crops per clip: 1 (center), 3 (along the long side) or 10 (corners and mirrored)."
    ),
]
BackgroundOption = Annotated[
    list[str] | None,
    typer.Option(help="Background class, meaning that no action happens (repeatable)."),
]
FastOption = Annotated[
    bool,
    typer.Option("--fast", help="Run the fastest form for this machine, measured on first use."),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="Device to run on, such as cpu or cuda:1; by default a GPU if available."),
]

MeasureOption = Annotated[
    bool,
    typer.Option(
        "--measure",
        help="Also time forward passes of 1 and 16 views on this machine, in plain float32.",
    ),
]
OptionOption = Annotated[
    list[str] | None,
    typer.Option(help="Option of the temporal module, such as ratio=0.5 (repeatable)."),
]

Number = TypeVar("Number", int, float)

# Width without a terminal: lines in a file or pipe are neither wrapped nor cut.
FILE_COLUMNS = 1000
# Seconds between progress lines without a terminal.
LINE_EVERY_S = 60.0


def results() -> Console:
    """Console for results, on stdout; brackets in names are not markup."""
    return _console(sys.stdout)


def notes() -> Console:
    """Console for everything else, on stderr."""
    return _console(sys.stderr)


def say_error(message: str) -> None:
    """Prints an error that the user can fix, on stderr."""
    notes().print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)


def parse_numbers(
    text: str, kind: type[Number], option: str, *, wanted: str, count: int | None = None
) -> tuple[Number, ...]:
    """Numbers between commas, such as "2,1"; whole numbers are not negative.

    Raises:
        typer.BadParameter: the text is of another form, or has not `count` numbers.
    """
    words = [word.strip() for word in text.split(",")]
    try:
        if kind is int and not all(word.isdecimal() for word in words):
            raise ValueError(text)
        numbers = tuple(kind(word) for word in words)
    except ValueError:
        numbers = ()
    if not numbers or count not in (None, len(numbers)):
        raise typer.BadParameter(f"expected {wanted}, got {text!r}", param_hint=option)
    return numbers


def parse_options(words: list[str] | None) -> dict[str, Any]:
    """Parses `key=value` words; a value that is not TOML is a string."""
    from kinema.models.zoo import create_model

    options: dict[str, Any] = {}
    for word in words or ():
        key, equals, text = word.partition("=")
        if not (key.isidentifier() and equals):
            raise typer.BadParameter(
                f"expected key=value such as ratio=0.5, got {word!r}", param_hint="--option"
            )
        if key in inspect.signature(create_model).parameters:
            raise typer.BadParameter(f"{key} is not an option of a temporal module: see --help")
        try:
            options[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            options[key] = text
    return options


def print_times(rows: list[dict[str, Any]]) -> None:
    """Prints what `time_network` measured."""
    for row in rows:
        size = "1 view" if row["batch"] == 1 else f"{row['batch']} views"
        results().print(f"{size} at a time: {row['ms']} ms, {row['videos_per_s']} videos/s")


def print_json(document: Any) -> None:
    """Prints the JSON document of `--json`."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


class _StderrHandler(logging.Handler):
    """Writes log lines to the current `sys.stderr`.

    A progress bar replaces `sys.stderr` while it is shown, so that lines appear above it; a handler
    that held the original stream would write through the bar.
    """

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(visible(self.format(record)) + "\n")


def show_log() -> None:
    """Logs to stderr: kinema from INFO, all other libraries from WARNING."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[_StderrHandler()])
    logging.getLogger("kinema").setLevel(logging.INFO)


@contextmanager
def resume_hint(command: str) -> Iterator[None]:
    """Prints on Ctrl-C the command that resumes the work inside."""
    try:
        yield
    except KeyboardInterrupt:
        notes().print(f"To resume: {command}")
        raise


def find_checkpoint(checkpoint: Path) -> Path:
    """Folder of a checkpoint; a published network or one on the hub is fetched first."""
    from kinema.models.published.catalog import find_published, is_on_hub, looks_published

    if checkpoint.exists():
        return checkpoint
    if is_on_hub(str(checkpoint)):  # the hub's client shows its own progress
        from kinema.models.published.folder import checkpoint_folder

        return checkpoint_folder(checkpoint)
    if not looks_published(str(checkpoint)):
        return checkpoint
    network = find_published(str(checkpoint))
    from kinema.models.published.folder import checkpoint_folder

    fetched = False
    with progress_bar(f"fetching {network.id}", in_bytes=True) as show:

        def progress(done: int, total: int) -> None:
            nonlocal fetched
            fetched = True
            show(done, total)

        folder = checkpoint_folder(checkpoint, progress=progress)
    if fetched:
        notes().print(f"{network.id} is now in {folder} ({network.license}).")
    return folder


@contextmanager
def progress_bar(title: str, *, in_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Progress bar on stderr, a line per minute without a terminal; call it with (done, total).

    Args:
        title: Text before the bar.
        in_bytes: Shows sizes instead of numbers.
    """
    if not sys.stderr.isatty():
        yield _line_each_minute(title, in_bytes=in_bytes)
        return
    bar = Progress(
        TextColumn(title),
        BarColumn(),
        DownloadColumn() if in_bytes else MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=notes(),
        transient=True,
    )
    task = bar.add_task(title, total=None)
    with bar:
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def _line_each_minute(title: str, *, in_bytes: bool) -> Callable[[int, int], None]:
    printed_s = time.monotonic()
    unit, shown = (1e6, " MB") if in_bytes else (1, "")

    def update(done: int, total: int) -> None:
        nonlocal printed_s
        if time.monotonic() - printed_s >= LINE_EVERY_S:
            printed_s = time.monotonic()
            of_all = f" of {total / unit:.0f}" if total else ""
            notes().print(f"{title}: {done / unit:.0f}{of_all}{shown}")

    return update


class _Console(Console):
    """Console whose text controls no terminal; only its own styles and cursor movements do."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def _console(stream: TextIO) -> Console:
    width = None if stream.isatty() else FILE_COLUMNS
    return _Console(file=stream, highlight=False, markup=False, emoji=False, width=width)
