"""Text of strangers, made safe to show."""

import os
import re

# Control characters other than tab and newline, marks that reorder or end lines, and surrogates.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Writes characters that control a terminal or reorder text as escapes such as \x1b.

    Names of classes and files come from other people; a terminal obeys what they contain.
    """
    return _UNSAFE.sub(lambda found: _escape(found[0]), text)


def as_text(name: str) -> str:
    r"""Writes the bytes of a name that are not UTF-8 as escapes such as \xe9; also in messages."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
