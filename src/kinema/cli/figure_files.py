"""Output files of `kinema figures`: folder, names and messages."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinema.cli.console import print_json, results
from kinema.system.files import check_writable

if TYPE_CHECKING:
    from kinema.figures.shown_clip import ShownClip

OutOption = Annotated[Path, typer.Option(help="Folder for the files; it is made.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]


def one_for_each(
    figure: str, shown: Sequence["ShownClip"], out: Path, *, overwrite: bool
) -> list[tuple[Path, Path]]:
    """PNG and NPZ of every clip, by the name of its file; further equal names get numbers."""
    stems = [f"{figure}_{name}" for name in _distinct([one.name for one in shown])]
    files = [(out / f"{stem}.png", out / f"{stem}.npz") for stem in stems]
    check_new([file for pair in files for file in pair], overwrite=overwrite)
    return files


def _distinct(names: Sequence[str]) -> Iterator[str]:
    taken: set[str] = set()
    for name in names:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        yield candidate


def check_new(files: Sequence[Path], *, overwrite: bool) -> None:
    """Refuses files that are there already, or that cannot be written."""
    for file in files:
        if file.exists() and not overwrite:
            raise typer.BadParameter(
                f"{file} already exists; choose another folder or add --overwrite",
                param_hint="--out",
            )
        check_writable(file)


def finish(
    figure: str, files: Sequence[Path], rows: Sequence[dict[str, Any]], *, as_json: bool
) -> None:
    """Prints the files, or one JSON document: figure, files and rows."""
    names = [str(file) for file in files]
    if as_json:
        print_json({"figure": figure, "files": names, "rows": list(rows)})
    else:
        results().print("\n".join(names))
