"""Class lists of public data sets, shipped with the package, in the order of their label files."""

from importlib import resources

_FOLDER = resources.files("kinema") / "data" / "class_lists"
SORTED = ":sorted"


def list_class_lists() -> list[str]:
    """Names of the class lists of the package.

    Example:
        >>> "kinetics400" in list_class_lists()
        True
    """
    return sorted(file.name.removesuffix(".txt") for file in _FOLDER.iterdir())


def shipped_class_names(name: str) -> tuple[str, ...] | None:
    """Class names of a list of the package; None if there is no such list.

    Args:
        name: Such as "jester", or "jester:sorted" for alphabetical order.
    """
    bare = name.removesuffix(SORTED)
    if bare not in list_class_lists():
        return None
    names = (_FOLDER / f"{bare}.txt").read_text("utf-8").splitlines()
    return tuple(sorted(names) if name != bare else names)
