"""Class names, and the labels that refer to them."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from kinema.errors import AnnotationError, did_you_mean

# Class lists of the package, in the order of the data sets' own label files.
_SHIPPED = resources.files("kinema.data") / "class_lists"
SORTED = ":sorted"
# Labels without names define classes up to the largest label; a typo must not fill the memory.
MOST_NUMBERED = 100_000


def list_class_lists() -> list[str]:
    """Names of the class lists of the package.

    Example:
        >>> "kinetics400" in list_class_lists()
        True
    """
    return sorted(file.name.removesuffix(".txt") for file in _SHIPPED.iterdir())


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Reads class names, in the order of their labels.

    Args:
        path: Name of a class list of the package (see `list_class_lists`), followed by `:sorted`
            for the alphabetical order that TSM's authors use for Something-Something V1 and
            Jester; or a file with a name per line, UCF101's `1 Name` lines, or JSON (a list of
            names, or an object of numbers by name as in Something-Something V2).

    Raises:
        AnnotationError: the file is missing or empty, or its numbers are not consecutive.

    Example:
        >>> len(read_class_names("something_v2"))
        174
    """
    name = str(path).removesuffix(SORTED)
    if name in list_class_lists():
        names = (_SHIPPED / f"{name}.txt").read_text("utf-8").splitlines()
        return tuple(sorted(names) if str(path).endswith(SORTED) else names)
    file = Path(path)
    if not file.is_file():
        raise AnnotationError(
            f"Class list {file} does not exist. Class lists of kinema: "
            f"{', '.join(list_class_lists())}."
        )
    if file.suffix.lower() == ".json":
        names = _from_json(file)
    else:
        lines = [line.strip() for line in read_text(file).splitlines()]
        names = _without_numbers([line for line in lines if line])
    if not names:
        raise AnnotationError(f"Class list {file} is empty.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise AnnotationError(f"Class list {file} names {twice!r} twice.")
    return tuple(names)


def class_list_text(names: Sequence[str]) -> str:
    """Formats a class list for `read_class_names`, a name per line.

    Names that look like UCF101's numbered lines get numbers in front.

    Example:
        >>> class_list_text(["1 jump", "2 run"])
        '1 1 jump\\n2 2 run\\n'
    """
    lines = list(names)
    if _without_numbers(lines) != lines:
        lines = [f"{number} {name}" for number, name in enumerate(names, start=1)]
    return "\n".join(lines) + "\n"


def _without_numbers(lines: list[str]) -> list[str]:
    """Removes line numbers, if all lines have consecutive ones from 1."""
    numbered = [re.fullmatch(r"(\d{1,9})\s+(.+)", line) for line in lines]
    rows = [match.groups() for match in numbered if match]
    if len(rows) == len(lines) and [int(n) for n, _ in rows] == list(range(1, len(rows) + 1)):
        return [name for _, name in rows]
    return lines


def read_text(file: Path) -> str:
    """Reads a UTF-8 text file, or raises an AnnotationError that names the faulty line."""
    data = file.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AnnotationError(
            f"{file}, line {line}: not UTF-8 text ({error.reason}). Save the file as UTF-8."
        ) from error


def read_json(file: Path) -> Any:
    """Reads a JSON file, or raises an AnnotationError."""
    text = read_text(file)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{file} is not valid JSON: {error}.") from error


def _from_json(file: Path) -> list[str]:
    content = read_json(file)
    if isinstance(content, list):
        return [str(name) for name in content]
    if not isinstance(content, dict):
        raise AnnotationError(f"{file}: expected a JSON list or object of class names.")
    by_label = {str(label): str(name) for name, label in content.items()}
    if by_label.keys() != {str(label) for label in range(len(content))}:
        raise AnnotationError(f"{file}: labels must count from 0 to {len(content) - 1}.")
    return [by_label[str(label)] for label in range(len(content))]


@dataclass
class ClassList:
    """Converts labels of an annotation file, names or numbers, to checked numbers.

    An open list (without names) accepts any number and grows with the largest.
    """

    names: tuple[str, ...]
    open: bool = False

    @classmethod
    def given_or_found(
        cls, given: tuple[str, ...] | None, found: Iterable[str], source: Path
    ) -> "ClassList":
        """Uses the given names, or the sorted labels of the file `source`."""
        labels = set(found)
        if given is not None:
            return cls(given)
        if labels and all(re.fullmatch(r"\d+", label) for label in labels):
            return cls(_numbered(max(_number(label, str(source)) for label in labels) + 1))
        return cls(tuple(sorted(labels)))

    @classmethod
    def given_or_counted(cls, given: tuple[str, ...] | None) -> "ClassList":
        """Uses the given names, or numbers up to the largest label of the file."""
        return cls(given) if given is not None else cls((), open=True)

    @classmethod
    def required(cls, given: tuple[str, ...] | None, source: Path) -> "ClassList":
        """Uses the given names, which this format requires."""
        if given is None:
            raise AnnotationError(
                f"{source} names classes by text; give the data set's class list with classes=."
            )
        return cls(given)

    def label_of(self, text: str, place: str) -> int:
        """Converts a class name or number to its label.

        Raises:
            AnnotationError: it is not in the class list; the message names `place`.
        """
        if text in self.names:
            return self.names.index(text)
        if re.fullmatch(r"\d+", text):
            label = _number(text, place)
            if self.open and label >= len(self.names):
                self.names = _numbered(label + 1)
            if label < len(self.names):
                return label
            raise AnnotationError(
                f"{place}: label {label} is outside the class list, which has "
                f"{len(self.names)} classes (0 to {len(self.names) - 1})."
            )
        raise AnnotationError(
            f"{place}: {text!r} is not in the class list. " + did_you_mean(text, self.names)
        )


def _number(text: str, place: str) -> int:
    """Parses a numeric label."""
    # The length comes first: int() is slow for long numbers and refuses very long ones.
    if len(text) > len(str(MOST_NUMBERED)) or int(text) >= MOST_NUMBERED:
        raise AnnotationError(
            f"{place}: label {text[:20]} is too large; the maximum is "
            f"{MOST_NUMBERED - 1}. Is this column a label?"
        )
    return int(text)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))
