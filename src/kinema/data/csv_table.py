"""CSV tables as spreadsheets, pandas and people write them.

Unlike the `csv` module this reader keeps the spaces of quoted fields and drops those of others, so
that names that begin or end with a space can be written and read back.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kinema.data.classes import read_text
from kinema.errors import AnnotationError

_DELIMITERS = ",;\t"
_MOST_CHARS = 1 << 17  # of a field; more is an unclosed quote or no CSV file
_NEEDS_QUOTES = re.compile(f'[{_DELIMITERS}"\\r\\n]')

Row = tuple[str, dict[str, str]]


def read_table(
    path: Path, required: Sequence[str], optional: Sequence[str] = (), *, expected: str
) -> tuple[list[Row], list[str]]:
    """Reads a table whose header has the required columns, in any order and case.

    The delimiter (comma, semicolon or tab) is taken from Excel's line `sep=;` or from the header.
    Rows without any text are skipped.

    Args:
        path: The file.
        required: Columns that the header must have and whose field is never empty.
        optional: Further columns that are read; others are ignored.
        expected: The columns in the words of the message for another header.

    Returns:
        Rows as (place for messages, fields by column), and the ignored columns.

    Raises:
        AnnotationError: a column is missing or there twice, or a row does not fit the header.
    """
    text = read_text(path)
    lines = re.split(r"\r\n|\r|\n", text, maxsplit=2)
    mark = re.fullmatch(
        rf'\s*"?sep=([{_DELIMITERS}])"?[{_DELIMITERS}]*\s*', lines[0], re.IGNORECASE
    )
    first = lines[1] if mark and len(lines) > 1 else lines[0]
    delimiter = mark[1] if mark else next((d for d in _DELIMITERS if d in first), ",")
    rows = _rows(path, text, delimiter)
    if mark:
        next(rows)
    line, header = next(rows, (1, [""]))
    names = [name.strip().lower() for name in header]
    while names and not names[-1]:  # Excel keeps columns that were emptied
        names.pop()
    place = f"{path}, line {line}"
    if not set(required) <= set(names):
        raise AnnotationError(
            f"{place}: expected a header with the columns {expected}, got {first.strip()!r}."
        )
    for name in (*required, *optional):
        if names.count(name) > 1:
            raise AnnotationError(f"{place}: the column {name!r} is there twice. Remove one.")
    table = []
    for line, fields in rows:
        place = f"{path}, line {line}"
        if not any(fields):
            continue
        wanted = f"{place}: expected {len(names)} fields, as in the header"
        # A surplus that is not empty is nearly always an unquoted comma in a class name.
        if any(fields[len(names) :]):
            raise AnnotationError(f"{wanted}; one with {delimiter!r} in it needs double quotes.")
        row = dict(zip(names, fields, strict=False))
        if len(fields) < len(names) or not row[required[0]]:
            raise AnnotationError(f"{wanted}.")
        table.append((place, row))
    return table, [name for name in names if name and name not in (*required, *optional)]


def _rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields (number of its first line, fields) of every row that is not blank."""
    field = re.compile(
        rf'[^\S\t\r\n]*"([^"]*+(?:""[^"]*+)*+)"[^\S\t\r\n]*(?=[{delimiter}\r\n]|\Z)'
        rf"|([^{delimiter}\r\n]*)"
    )
    at, line = 0, 1
    while at < len(text):
        begin, fields = line, []
        while True:
            match = field.match(text, at)
            assert match is not None, "the second form matches an empty field"
            quoted, plain = match.groups()
            where = f"{path}, line {line}"
            if quoted is None and plain.lstrip().startswith('"'):
                raise AnnotationError(
                    f"{where}: a double quote is not closed before {delimiter!r} or the end of the "
                    'line. Inside of a quoted field write it twice ("").'
                )
            fields.append(plain.strip() if quoted is None else quoted.replace('""', '"'))
            if len(fields[-1]) > _MOST_CHARS:
                raise AnnotationError(
                    f"{where}: not a valid CSV file, since a field has {len(fields[-1])} "
                    f"characters; the maximum is {_MOST_CHARS}."
                )
            line += len(re.findall(r"\r\n|\r|\n", quoted or ""))
            at = match.end()
            if not text.startswith(delimiter, at):
                break
            at += 1
        end = re.compile(r"\r\n|\r|\n|\Z").match(text, at)
        assert end is not None, "a field ends at a delimiter or the end of its line"
        at, line = end.end(), line + 1
        if fields != [""]:
            yield begin, fields


def table_text(rows: Iterable[Iterable[object]]) -> str:
    """Formats rows, the header first, for `read_table`.

    Example:
        >>> table_text([["path", "label"], ["a.mp4", " jump, high"]])
        'path,label\\r\\na.mp4," jump, high"\\r\\n'
    """
    return "".join(",".join(map(_field, row)) + "\r\n" for row in rows)


def _field(value: object) -> str:
    text = str(value)
    if text == text.strip() and not _NEEDS_QUOTES.search(text):
        return text
    return '"' + text.replace('"', '""') + '"'
