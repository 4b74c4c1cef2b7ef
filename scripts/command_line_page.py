"""Writes docs/reference/command_line.md: every command and option, from the program's own help.

Run it after changing a command: `python scripts/command_line_page.py`. A test compares the page
with what this makes.
"""

import html
import re
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from kinema.cli.main import app

TARGET = Path(__file__).resolve().parents[1] / "docs" / "reference" / "command_line.md"
PROGRAM = "kinema"

HEAD = """# Command line

Made by `python scripts/command_line_page.py` from the help texts of the program: `kinema COMMAND
--help` says the same. Results go to stdout, everything else to stderr. The exit code is 0 when
done, 1 when something failed, 2 for wrong use.
"""


def page() -> str:
    """The whole page."""
    return "\n\n".join([HEAD.strip(), *_sections(get_command(app), PROGRAM, parent=None)]) + "\n"


def _sections(
    command: TyperCommand | TyperGroup, words: str, *, parent: typer.Context | None
) -> Iterator[str]:
    """The section of a command, then those of the commands below it."""
    ctx = typer.Context(command, info_name=words.rsplit(maxsplit=1)[-1], parent=parent)
    yield f"{'#' * min(4, words.count(' ') + 2)} {words}"
    explanation, _, example = (command.help or "").partition("Example:")
    yield _plain(explanation.strip())
    usage = " ".join([words, *command.collect_usage_pieces(ctx)])
    yield f"```text\n{usage}\n```"
    if example:
        yield f"For example:\n\n```sh\n{' '.join(example.split())}\n```"
    if options := [f"- `{name}`: {_plain(text)}" for name, text in _records(command, ctx)]:
        yield "\n".join(options)
    if isinstance(command, TyperGroup):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below is not None
            yield from _sections(below, f"{words} {name}", parent=ctx)


def _records(command: TyperCommand | TyperGroup, ctx: typer.Context) -> Iterator[tuple[str, str]]:
    """Names and explanations of arguments and options; `--help` goes without saying."""
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None and parameter.name != "help":
            yield record


def _plain(text: str) -> str:
    """A help text as Markdown: nothing but words in backticks means anything."""
    bare = re.sub(r"\[/?bold\]", "`", text)
    parts = re.split(r"(`[^`]*`)", bare)
    for number in range(0, len(parts), 2):
        parts[number] = re.sub(r"([*_\[\]])", r"\\\1", html.escape(parts[number], quote=False))
    return "".join(parts)


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
