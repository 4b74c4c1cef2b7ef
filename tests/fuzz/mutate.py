"""Random damage to bytes, the same for the same seed."""

import random
from collections.abc import Callable

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
INTEGERS = (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
LARGEST = 4 << 20  # bytes of a damaged file
TEXTS = (
    b"", b"-1", b"0", b"1e999", b"NaN", b"null", b"true", b"99999999999999999999", b"../../etc",
    b"/etc/passwd", b"\x00", b"\xff\xfe", b"\r\n\r\n", b'"', b"[[", b"]]", b"{}", b"=", b",,,,",
    "\u202e\u00e9\U0001f3c3".encode(), b"file:///etc/passwd", b"hf-hub:someone/model",
)  # fmt: skip

Rng = random.Random


def _flip_bits(data: bytearray, rng: Rng) -> None:
    for _ in range(rng.choice((1, 4, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set_bytes(data: bytearray, rng: Rng) -> None:
    for _ in range(rng.choice((1, 8, 256))):
        data[rng.randrange(len(data))] = rng.choice(INTERESTING)


def _set_integer(data: bytearray, rng: Rng) -> None:
    """Sizes and counts in containers are integers."""
    width = rng.choice((2, 4, 8))
    number = rng.choice(INTEGERS) % (1 << 8 * width)
    at = rng.randrange(len(data))
    data[at : at + width] = number.to_bytes(width, rng.choice(("big", "little")))


def _cut(data: bytearray, rng: Rng) -> None:
    del data[rng.randrange(len(data)) :]


def _drop(data: bytearray, rng: Rng) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, 1 + max(1, len(data) // 4))]


def _repeat(data: bytearray, rng: Rng) -> None:
    at = rng.randrange(len(data))
    part = data[at : at + rng.randrange(1, 1 + max(1, len(data) // 8))]
    data[at:at] = part * rng.choice((1, 2, 16))


def _swap(data: bytearray, rng: Rng) -> None:
    size = rng.randrange(1, 1 + max(1, len(data) // 8))
    first, second = rng.randrange(len(data)), rng.randrange(len(data))
    one, other = data[first : first + size], data[second : second + size]
    data[first : first + size] = other
    data[second : second + size] = one


def _zero(data: bytearray, rng: Rng) -> None:
    at = rng.randrange(len(data))
    end = min(len(data), at + rng.choice((16, 1024, 65536)))
    data[at:end] = bytes(end - at)


def _insert_text(data: bytearray, rng: Rng) -> None:
    at = rng.randrange(len(data))
    data[at : at + rng.choice((0, 1, 8))] = rng.choice(TEXTS)


DAMAGES: tuple[Callable[[bytearray, Rng], None], ...] = (
    _flip_bits, _set_bytes, _set_integer, _cut, _drop, _repeat, _swap, _zero, _insert_text,
)  # fmt: skip


def damaged(data: bytes, seed: int) -> bytes:
    """A copy with one to four random damages; empty once in a while."""
    rng = random.Random(seed)
    if rng.random() < 0.005:
        return b""
    copy = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if copy:
            rng.choice(DAMAGES)(copy, rng)
    return bytes(copy[:LARGEST])
