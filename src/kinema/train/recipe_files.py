"""Where recipes lie: in the user's folders, or with the package under the name recipes/."""

from importlib.resources import files
from pathlib import Path
from typing import Literal

from kinema.errors import RecipeError, did_you_mean

SHIPPED = Path(str(files("kinema") / "recipes"))


def find_recipe(path: str | Path, kind: Literal["recipe", "sweep"] = "recipe") -> Path:
    """The file that a path means: recipes/NAME.toml works in every folder.

    Args:
        path: A file; where there is none, and the path begins with recipes/, one that comes with
            kinema.
        kind: What the file is.

    Raises:
        RecipeError: there is neither.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        return path
    shipped = _shipped(path)
    if shipped is not None and shipped.is_file():
        return shipped
    near = did_you_mean(path.name, _near(path) or _all(kind))
    raise RecipeError(f"There is no {kind} file {path}. {near}")


def _shipped(path: Path) -> Path | None:
    return SHIPPED.joinpath(*path.parts[1:]) if path.parts[:1] == ("recipes",) else None


def _near(path: Path) -> list[str]:
    """Names of the files beside the one that is missing."""
    folders = [path if path.is_dir() else path.parent, _shipped(path.parent)]
    return [file.name for folder in folders if folder for file in folder.glob("*.toml")]


def _all(kind: str) -> list[str]:
    folder = SHIPPED / "sweeps" if kind == "sweep" else SHIPPED
    return [f"recipes/{file.relative_to(SHIPPED)}" for file in folder.glob("*.toml")]
