"""Messages between decoder processes and their caller: JSON facts and arrays.

A message is the length of a JSON text (4 bytes), the text, and the bytes of the arrays it lists.
Nothing is unpickled: a decoder that a file has taken over can send wrong numbers, but no code.
"""

import json
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LENGTH = struct.Struct("!I")
_MOST_TEXT_BYTES = 1 << 20
_TYPES = ("uint8", "int64", "float64")


@dataclass(frozen=True)
class Message:
    """Facts and the arrays that belong to them."""

    facts: dict[str, Any]
    arrays: tuple[NDArray[Any], ...] = ()


class WireError(Exception):
    """The other side sent malformed data, or more than allowed."""


def send(
    channel: socket.socket, facts: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()
) -> None:
    """Sends one message; an array is copied only if it is not contiguous."""
    solid = [np.ascontiguousarray(array) for array in arrays]
    listed = [{"type": str(array.dtype), "shape": array.shape} for array in solid]
    text = json.dumps({"facts": dict(facts), "arrays": listed}).encode()
    channel.sendall(_LENGTH.pack(len(text)) + text)
    for array in solid:
        channel.sendall(array.ravel().view(np.uint8).data)


def receive(channel: socket.socket, *, most_bytes: int) -> Message:
    """Waits for the next message.

    Args:
        channel: Its timeout holds for every part of the message.
        most_bytes: Upper bound for all arrays together.

    Raises:
        EOFError: the other side has closed the channel or ended.
        TimeoutError: nothing arrived within the timeout of the channel.
        WireError: the data is malformed or too large.
    """
    (length,) = _LENGTH.unpack(_bytes(channel, _LENGTH.size))
    if length > _MOST_TEXT_BYTES:
        raise WireError(f"a text of {length} bytes")
    try:
        document = json.loads(_bytes(channel, length))
        facts, listed = document["facts"], document["arrays"]
        forms = [(str(entry["type"]), tuple(map(int, entry["shape"]))) for entry in listed]
    except (ValueError, KeyError, TypeError) as error:
        raise WireError(f"no message: {error}") from error
    if not isinstance(facts, dict) or any(kind not in _TYPES for kind, _ in forms):
        raise WireError("no message")
    if any(size < 0 for _, shape in forms for size in shape):
        raise WireError("a negative size")
    total = sum(prod(shape) * np.dtype(kind).itemsize for kind, shape in forms)
    if total > most_bytes:
        raise WireError(f"{total} bytes, more than {most_bytes}")
    return Message(facts, tuple(_array(channel, kind, shape) for kind, shape in forms))


def _array(channel: socket.socket, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.empty(shape, kind)
    rest = array.ravel().view(np.uint8).data
    while rest:
        count = channel.recv_into(rest)
        if not count:
            raise EOFError("the channel was closed")
        rest = rest[count:]
    return array


def _bytes(channel: socket.socket, count: int) -> bytes:
    return _array(channel, "uint8", (count,)).tobytes()
