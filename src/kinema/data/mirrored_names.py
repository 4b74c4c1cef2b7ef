"""Directions in class names, and the class that a mirrored video shows.

Mirroring swaps left and right and reverses rotations. A class whose name has no direction stays
the same.
"""

import re
from collections.abc import Sequence

_OPPOSITES = {
    "left": "right",
    "leftward": "rightward",
    "leftwards": "rightwards",
    "counterclockwise": "clockwise",
    "ccw": "cw",
}
_MIRRORED = {
    **_OPPOSITES,
    **{right: left for left, right in _OPPOSITES.items()},
    "anticlockwise": "clockwise",
}

# "Right out" and "right away" are not directions.
_ADVERB = re.compile(r"(?i)\bright (out|away|after|before|now|next)\b")

# A word is a run of letters; a capital after a lowercase letter starts a new one (SwipeLeft).
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def mirrored_class_name(name: str) -> str | None:
    """Returns the name with directions swapped; None if it has none.

    Example:
        >>> mirrored_class_name("Pushing something from left to right")
        'Pushing something from right to left'
        >>> mirrored_class_name("Bright lights") is None
        True
    """
    # "counter-clockwise" is made one word first, or its "clockwise" would be swapped by itself.
    joined = re.sub(r"(?i)\b(counter|anti)[- ](?=clockwise)", r"\1", name)
    adverbs = [match.span() for match in _ADVERB.finditer(joined)]

    def swap(match: re.Match[str]) -> str:
        inside = any(start <= match.start() < end for start, end in adverbs)
        return match.group() if inside else _swap(match.group())

    swapped = _WORD.sub(swap, joined)
    return None if swapped == joined else swapped


def mirror_map(class_names: Sequence[str]) -> dict[int, int | None]:
    """Maps each label to the label of the mirrored video.

    A label maps to itself if its name has no direction, and to None if it has one but no class
    has the mirrored name: such videos must not be mirrored.
    """
    by_name = {_key(name): label for label, name in enumerate(class_names)}
    mirrored: dict[int, int | None] = {}
    for label, name in enumerate(class_names):
        other = mirrored_class_name(name)
        mirrored[label] = label if other is None else by_name.get(_key(other))
    return mirrored


def _swap(word: str) -> str:
    other = _MIRRORED.get(word.lower())
    if other is None:
        return word
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other


def _key(name: str) -> str:
    """Normalizes spellings: case, and counter- or anticlockwise."""
    text = re.sub(r"(counter|anti)[- ]?clockwise", "counterclockwise", name.lower())
    return " ".join(text.split())
