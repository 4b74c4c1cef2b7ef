"""Fallback fonts for class names in scripts that the default fonts lack, such as Chinese."""

import logging
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

# Fonts whose glyphs are boxes or do not follow Unicode.
_NO_LETTERS = ("Last Resort", "STIXNonUni", "cm")

# Common characters that most texts contain too.
_BESIDE = frozenset("aA0%")

_log = logging.getLogger(__name__)


def fallback_font(text: str) -> "FontEntry | None":
    """Finds the installed font that covers most of the characters, preferably upright sans-serif.

    Returns:
        The font; None if the fonts of matplotlib and Pillow cover the text, no font covers the
        rest, or matplotlib, which lists the installed fonts, is missing. Characters that will
        show as boxes are logged.
    """
    rare = frozenset(letter for letter in text if not _is_common(letter))
    return _best(rare | _BESIDE) if rare else None


def _is_common(letter: str) -> bool:
    """True for Latin, Greek and Cyrillic letters, common signs and white space."""
    return ord(letter) < 0x0530 or 0x2000 <= ord(letter) < 0x2300 or letter.isspace()


@lru_cache(256)
def _best(letters: frozenset[str]) -> "FontEntry | None":
    try:
        from matplotlib.font_manager import fontManager
    except ModuleNotFoundError:
        return None
    fonts = [font for font in fontManager.ttflist if not font.name.startswith(_NO_LETTERS)]
    found = max(fonts, key=lambda font: (_count(font, letters), *_plainness(font)))
    missing = [letter for letter in sorted(letters) if not _count(found, {letter})]
    if missing:
        _log.warning(
            "no installed font has all letters of the names: %s%s will show as boxes; install one "
            "of that script, such as Debian's fonts-noto-cjk for Chinese, Japanese and Korean",
            " ".join(missing[:10]),
            " ..." if len(missing) > 10 else "",
        )
    return found if len(missing) < len(letters - _BESIDE) else None


def _count(font: "FontEntry", letters: Iterable[str]) -> int:
    """Counts the letters that the font covers; 0 if its file is missing or broken."""
    from matplotlib.ft2font import FT2Font

    try:
        shapes = FT2Font(font.fname)
    except (OSError, RuntimeError):
        return 0
    return sum(shapes.get_char_index(ord(letter)) > 0 for letter in letters)


def _plainness(font: "FontEntry") -> tuple[bool, bool, int, str]:
    weight = font.weight if isinstance(font.weight, int) else 400
    name = font.name.lower()
    return (
        font.style == "normal",
        "serif" not in name and "mono" not in name,
        -abs(weight - 400),
        Path(font.fname).name,
    )
