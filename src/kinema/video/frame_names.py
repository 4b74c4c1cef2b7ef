"""Names of frame files: the family of names that holds the frames, and the order of its numbers.

A family is the names that differ only in their numbers, such as img_00001.jpg and img_00002.jpg.
Frames often lie beside optical flow, depth, masks, thumbnails or copies in another format.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path, PurePath

from kinema.errors import UnreadableVideoError

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"[A-Z]*[a-z]+|[A-Z]+")
# Words of families that are no RGB frames if there are others.
_NO_FRAMES = re.compile(
    r"(flow|depth|dispar|mask|thumb|seg|label|annot|normal|heat|pose|skelet|keypoint|saliency)\w*"
    r"|preview|poster|cover|copy|small|edges?|overlay|vis|optical|infrared|gr[ae]y|[uvxy]|n?ir|gt"
)
_FRAMES = (re.compile("img"), re.compile(r"rgb|images?|frames?|colou?r"))
_SHOWN = 4  # of the families in a message

Families = dict[str, list[str]]
Values = list[tuple[int, ...]]


def frame_order(folder: Path, names: Iterable[str]) -> list[str]:
    """The frames among the names of the pictures of a folder, in their order.

    A single family holds the frames. Of several, those are left out that are named as something
    else (flow, depth, mask, thumbnail, copy), and then names without a number; of the rest the one
    named img, else rgb, image, frame or color, is taken. Numbers may be seconds, such as 0.03.

    Raises:
        UnreadableVideoError: several families remain, or their numbers can be read in two ways.

    Example:
        >>> frame_order(Path("run"), ["0.1.jpg", "0.03.jpg", "0.03_depth.jpg"])
        ['0.03.jpg', '0.1.jpg']
    """
    return _in_order(folder, _chosen(folder, _families(names)))


def _families(names: Iterable[str]) -> Families:
    """Names by family; its name has # for numbers."""
    families: Families = {}
    for pattern, members in _grouped(names, lambda name: _NUMBER.sub("#", _stem(name))).items():
        families |= _split(pattern, members)
    return families


def _split(pattern: str, members: list[str]) -> Families:
    """Splits names of one pattern whose numbers repeat: by camera, else by suffix."""
    rows = {name: tuple(_NUMBER.findall(_stem(name))) for name in members}
    columns = list(zip(*rows.values(), strict=True))
    varying = [n for n, column in enumerate(columns) if len(set(column)) > 1]
    if len(varying) > 1:
        # cam1_0001: a number after a letter that occurs with several others, which repeat.
        first, head = varying[0], "#".join(pattern.split("#")[: varying[0] + 1])
        others = {(*row[:first], *row[first + 1 :]) for row in rows.values()}
        different = len(set(rows.values()))
        if head[-1:].isalpha() and different > max(len(others), len(set(columns[first]))):
            tail = pattern[len(head) + 1 :]
            return _grouped(members, lambda name: head + rows[name][first] + tail)
    if len(set(rows.values())) < len(rows):
        return _grouped(members, lambda name: pattern + PurePath(name).suffix)
    return {pattern: members}


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> Families:
    groups: Families = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return groups


def _chosen(folder: Path, families: Families) -> list[str]:
    """The family with the frames."""
    words = {pattern: {word.lower() for word in _WORD.findall(pattern)} for pattern in families}
    shared = set.intersection(*words.values())
    rules: tuple[Callable[[str, set[str]], bool], ...] = (
        lambda pattern, _: not any(map(_NO_FRAMES.fullmatch, words[pattern] - shared)),
        lambda pattern, left: not (pattern.endswith("# (#)") and pattern[:-4] in left),
        lambda pattern, left: "#" in pattern or _is_first(pattern, left - {pattern}),
        lambda pattern, _: any(map(_FRAMES[0].fullmatch, words[pattern])),
        lambda pattern, _: any(map(_FRAMES[1].fullmatch, words[pattern])),
    )
    left = set(families)
    for is_kept in rules:  # a rule that would keep none is left out
        left = {pattern for pattern in left if is_kept(pattern, left)} or left
    if len(left) == 1 or not any("#" in pattern for pattern in left):
        return [name for pattern in left for name in families[pattern]]
    kinds = ", ".join(f"{p} ({len(families[p])} files)" for p in sorted(left)[:_SHOWN])
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    raise UnreadableVideoError(
        f"{folder} holds pictures of {len(left)} kinds: {kinds}{more}, with # for a number. Leave "
        "one kind in the folder, or name its frames img_00001 and so on."
    )


def _is_first(pattern: str, others: set[str]) -> bool:
    """True for frame beside frame2 and frame3: a name without a number that may be the first."""
    return any(other.rstrip(" _-(#)") == pattern for other in others)


def _in_order(folder: Path, names: list[str]) -> list[str]:
    """Sorts the names of a family by their numbers."""
    rows = [_NUMBER.findall(_stem(name)) for name in names]
    columns = [_values(folder, column) for column in zip(*rows, strict=True)]
    keys = list(zip(*columns, strict=True)) or [()] * len(names)
    ordered = sorted(zip(keys, names, strict=True))
    for (key, name), (next_key, next_name) in pairwise(ordered):
        if key and key == next_key:
            raise UnreadableVideoError(
                f"{folder} holds two frames of one number: {name} and {next_name}. Remove one."
            )
    return [name for _, name in ordered]


def _values(folder: Path, texts: Sequence[str]) -> Values:
    """Numbers as tuples that sort: 0.5 is a decimal number, or frame 5 of part 0."""
    parts = [re.split("[.,]", text) for text in texts]
    numbered = [tuple(map(int, part)) for part in parts]
    width = max(len(part[-1]) for part in parts)
    if max(map(len, parts)) != 2:
        return numbered
    decimal: Values = [(int(whole), int("".join(rest).ljust(width, "0"))) for whole, *rest in parts]
    if _ranks(decimal) == _ranks(numbered):
        return decimal
    tails = {part[1] for part in parts if len(part) == 2 and len(part[1]) > 1}
    # Decimal numbers of different length do not end in 0, and plain numbers do not begin with it.
    reads_decimal, reads_numbered = (any(tail[end] == "0" for tail in tails) for end in (0, -1))
    if reads_decimal == reads_numbered:
        reads_decimal = _is_even([whole * 10**width + tail for whole, tail in decimal])
        reads_numbered = all(
            _is_even([value[-1] for value in numbered if value[0] == whole])
            for whole in {value[0] for value in numbered}
        )
    if reads_decimal == reads_numbered:
        raise UnreadableVideoError(
            f"{folder} has frames whose order is unclear: {min(texts)} and {max(texts)} may be "
            "decimal numbers or have two numbers each. Name them by one whole number."
        )
    return decimal if reads_decimal else numbered


def _ranks(values: Values) -> list[int]:
    return sorted(range(len(values)), key=values.__getitem__)


def _is_even(values: Iterable[int]) -> bool:
    """True for values at nearly equal distances."""
    gaps = [b - a for a, b in pairwise(sorted(values))]
    return not gaps or 0 < max(gaps) <= 1.5 * min(gaps)


def _stem(name: str) -> str:
    return unicodedata.normalize("NFC", PurePath(name).stem)
