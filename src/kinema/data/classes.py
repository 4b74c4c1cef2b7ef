"""Class names, and the labels that refer to them."""

import codecs
import json
import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.class_lists import list_class_lists, shipped_class_names
from kinema.errors import AnnotationError, did_you_mean

_log = logging.getLogger(__name__)

_JSON_LIST = '["'  # begins a list of names as JSON in a file of any suffix
# Labels without names define classes up to the largest label; a typo must not fill the memory.
MOST_NUMBERED = 100_000
# Marks for a missing label of pandas, R and spreadsheets, and of lists with labels below 0.
_NO_CLASS = re.compile(r"-\d+(\.0*)?|nan|<na>|#?n/?a|#\w+[!?]", re.IGNORECASE)
_WHOLE = re.compile(r"(\d+)(\.0*)?")  # pandas writes 6.0 for 6 in a column with gaps


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Reads class names, in the order of their labels.

    Args:
        path: Name of a class list of the package (see `list_class_lists`), followed by `:sorted`
            for the alphabetical order that TSM's authors use for Something-Something V1 and
            Jester; or a file with a name per line, UCF101's `1 Name` lines, `name,0` lines of
            Moments in Time, or JSON (a list of names, or an object of numbers by name as in
            Something-Something V2).

    Raises:
        AnnotationError: the file is missing or empty, or its numbers are not consecutive.

    Example:
        >>> len(read_class_names("something_v2"))
        174
    """
    if (shipped := shipped_class_names(str(path))) is not None:
        return shipped
    file = Path(path)
    if not file.is_file():
        raise AnnotationError(
            f"Class list {file} does not exist. Class lists of kinema: "
            f"{', '.join(list_class_lists())}."
        )
    text = read_text(file)
    if file.suffix.lower() == ".json" or text.startswith(_JSON_LIST):
        names = _from_json(file)
    else:
        names = _without_numbers([line.strip() for line in split_lines(text) if line.strip()])
    names = [composed(name) for name in names]
    if not names:
        raise AnnotationError(f"Class list {file} is empty.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise AnnotationError(f"Class list {file} names {twice!r} twice.")
    return tuple(names)


def composed(text: str) -> str:
    """The text in the one form (NFC) that names are compared in.

    Accented letters can be one character or two, which look the same.

    Example:
        >>> composed("cafe\\u0301") == "caf\\u00e9"
        True
    """
    return unicodedata.normalize("NFC", text)


def split_lines(text: str) -> list[str]:
    """Splits at line feeds and carriage returns only; `str.splitlines` also does at U+2028."""
    return re.split(r"\r\n|\r|\n", text)


def class_list_text(names: Sequence[str]) -> str:
    """Formats a class list for `read_class_names`, a name per line.

    Names that look like numbered lines get numbers in front; a list with names that lines cannot
    hold is JSON.

    Example:
        >>> class_list_text(["1 jump", "2 run"])
        '1 1 jump\\n2 2 run\\n'
    """
    lines = list(names)
    if any(name != name.strip() or len(split_lines(name)) > 1 for name in lines) or (
        lines and lines[0].startswith((_JSON_LIST, "\ufeff"))
    ):
        return json.dumps(lines, ensure_ascii=False) + "\n"
    if _without_numbers(lines) != lines:
        lines = [f"{number} {name}" for number, name in enumerate(names, start=1)]
    return "\n".join(lines) + "\n"


def _without_numbers(lines: list[str]) -> list[str]:
    """Names of `1 Name` lines counted from 1, or of `name,0` lines by their numbers from 0.

    Lines whose numbers are not consecutive are names as they are.
    """
    numbered = [re.fullmatch(r"(\d{1,9})\s+(.+)", line) for line in lines]
    rows = [match.groups() for match in numbered if match]
    if len(rows) == len(lines) and [int(n) for n, _ in rows] == list(range(1, len(rows) + 1)):
        return [name for _, name in rows]
    marked = [re.fullmatch(r"(.+),\s*(\d{1,9})", line) for line in lines]
    by_label = {int(match[2]): match[1].strip() for match in marked if match}
    if len(by_label) == len(lines) and by_label.keys() == set(range(len(lines))):
        return [by_label[label] for label in range(len(lines))]
    return lines


def read_text(file: Path) -> str:
    """Reads a text file: UTF-8, or UTF-16 with its mark, as spreadsheets write it.

    Raises:
        AnnotationError: it is neither; the message names the faulty line.
    """
    data = file.read_bytes()
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AnnotationError(
            f"{file}, line {line}: not UTF-8 text ({error.reason}). Save the file as UTF-8."
        ) from error
    if (at := text.find("\0")) >= 0:  # of another encoding, or of no text at all
        line = text.count("\n", 0, at) + 1
        raise AnnotationError(f"{file}, line {line}: a NUL character. Save the file as UTF-8 text.")
    return text


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

    An open list (without names) accepts any number and grows with the largest. Numbers index the
    names, unless `only_names`, or a name is itself a number, such as 2021, without `only_indices`.
    """

    names: tuple[str, ...]
    open: bool = False
    only_names: bool = False
    only_indices: bool = False

    def __post_init__(self) -> None:
        self.names = tuple(composed(name) for name in self.names)
        self._are_numbers = (
            not self.only_indices
            and self.names != _numbered(len(self.names))
            and any(map(_WHOLE.fullmatch, self.names))
        )

    @classmethod
    def given_or_found(
        cls, given: tuple[str, ...] | None, found: Iterable[str], source: Path
    ) -> "ClassList":
        """Uses the given names, or the sorted labels of the file `source`.

        Whole numbers are labels if at most a third of the classes up to the largest is then empty,
        else they are names.
        """
        if given is not None:
            return cls(given)
        labels = {composed(label) for label in found if not _NO_CLASS.fullmatch(label)}
        if not labels or not all(_WHOLE.fullmatch(label) for label in labels):
            return cls(tuple(sorted(labels)))
        numbers = {_number(label, str(source)) for label in labels}
        count = max(numbers) + 1
        if 2 * (count - len(numbers)) <= len(numbers):
            return cls(_numbered(count))
        _log.warning(
            "%s: its labels are %d different numbers up to %d and are taken for names of %d "
            "classes. If they are labels of %d classes, give the class list.",
            *(source, len(numbers), count - 1, len(numbers), count),
        )
        return cls(_by_value({label.split(".")[0] for label in labels}))

    @classmethod
    def named(cls, given: tuple[str, ...] | None, found: Iterable[str]) -> "ClassList":
        """Uses the given names, or the sorted names of folders or files, which may be numbers."""
        if given is not None:
            return cls(given, only_names=True)
        return cls(_by_value({composed(name) for name in found}), only_names=True)

    @classmethod
    def given_or_counted(cls, given: tuple[str, ...] | None) -> "ClassList":
        """Uses the given names, or numbers up to the largest label of the file."""
        return cls(given or (), open=given is None, only_indices=True)

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
        text = composed(text)
        number = None if self.only_names else _WHOLE.fullmatch(text)
        if number and not self._are_numbers:
            return self._counted(text, place)
        spellings = [text, number[1], str(_number(text, place))] if number else [text]
        for name in spellings:
            if name in self.names:
                return self.names.index(name)
        if _NO_CLASS.fullmatch(text):
            raise AnnotationError(
                f"{place}: {text!r} is no label. Leave it empty for a video without a label, or "
                "give a class list that has it."
            )
        raise AnnotationError(
            f"{place}: {text!r} is not in the class list. " + did_you_mean(text, self.names)
        )

    def _counted(self, text: str, place: str) -> int:
        """Label of a number, which an open list grows to."""
        label = _number(text, place)
        if self.open and label >= len(self.names):
            self.names = _numbered(label + 1)
        if label < len(self.names):
            return label
        raise AnnotationError(
            f"{place}: label {label} is outside the class list, which has "
            f"{len(self.names)} classes (0 to {len(self.names) - 1})."
        )


def say_counts_from_one(labels: Iterable[int | None], names: Sequence[str], source: Path) -> None:
    """Logs a warning if classes are numbers from 0, but labels from 1, so that class 0 is empty."""
    used = {label for label in labels if label is not None}
    if used and 0 not in used and tuple(names) == _numbered(len(names)):
        _log.warning(
            "%s: labels begin at %d, so class 0 has no video. Labels count from 0: subtract %d, or "
            "give the class list.",
            *(source, min(used), min(used)),
        )


def _number(text: str, place: str) -> int:
    """Parses a numeric label, such as 7, 007 or 7.0."""
    text = text.split(".", maxsplit=1)[0]
    # The length comes first: int() is slow for long numbers and refuses very long ones.
    if len(text) > len(str(MOST_NUMBERED)) or int(text) >= MOST_NUMBERED:
        raise AnnotationError(
            f"{place}: label {text[:20]} is too large; the maximum is "
            f"{MOST_NUMBERED - 1}. Is this column a label?"
        )
    return int(text)


def _by_value(names: Iterable[str]) -> tuple[str, ...]:
    """Sorts names; numbers, if all are, by their value."""
    names = set(names)
    if all(re.fullmatch(r"\d{1,1000}", name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))
