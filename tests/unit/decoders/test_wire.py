"""Messages between server and decoders: what goes in comes out, and nothing else is taken."""

import json
import socket
import struct
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kinema.decoders import wire

ARRAYS = st.lists(
    st.tuples(
        st.sampled_from(["uint8", "int64", "float64"]), st.lists(st.integers(0, 5), max_size=4)
    ).map(lambda form: np.arange(np.prod(form[1], dtype=int)).reshape(form[1]).astype(form[0])),
    max_size=3,
)
FACTS = st.dictionaries(st.text(max_size=5), st.one_of(st.none(), st.integers(), st.text()))


@given(FACTS, ARRAYS)
@settings(max_examples=20, deadline=None)
def test_what_goes_in_comes_out(facts, arrays):
    one, other = socket.socketpair()
    with one, other:
        wire.send(one, facts, arrays)
        message = wire.receive(other, most_bytes=10_000)
    assert message.facts == facts
    for got, wanted in zip(message.arrays, arrays, strict=True):
        assert got.dtype == wanted.dtype
        assert_array_equal(got, wanted)


def test_a_large_array_arrives_whole():
    one, other = socket.socketpair()
    array = np.random.default_rng(0).integers(0, 256, (100, 64, 64, 3), np.uint8)
    with one, other:
        sender = threading.Thread(target=wire.send, args=(one, {}, [array[:, ::2]]))
        sender.start()
        message = wire.receive(other, most_bytes=array.nbytes)
        sender.join()
    assert_array_equal(message.arrays[0], array[:, ::2])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[1]", "no message"),
        ("{", "no message"),
        ('{"facts": {}}', "arrays"),
        ('{"facts": 1, "arrays": []}', "no message"),
        ('{"facts": {}, "arrays": [{"type": "object", "shape": [1]}]}', "no message"),
        ('{"facts": {}, "arrays": [{"type": "uint8", "shape": [-1]}]}', "negative"),
        ('{"facts": {}, "arrays": [{"type": "uint8", "shape": [101]}]}', "more than 100"),
        ('{"facts": {}, "arrays": [{"type": "uint8", "shape": ["x"]}]}', "no message"),
    ],
)
def test_what_is_no_message(text, part):
    one, other = socket.socketpair()
    with one, other:
        one.sendall(struct.pack("!I", len(text)) + text.encode())
        with pytest.raises(wire.WireError, match=part):
            wire.receive(other, most_bytes=100)
        one.sendall(struct.pack("!I", 1 << 31))
        with pytest.raises(wire.WireError, match="a text of"):
            wire.receive(other, most_bytes=100)


def test_an_end_and_a_silence():
    one, other = socket.socketpair()
    with one, other:
        other.settimeout(0.01)
        with pytest.raises(TimeoutError):
            wire.receive(other, most_bytes=0)
        text = json.dumps({"facts": {}, "arrays": []}).encode()
        one.sendall(struct.pack("!I", len(text)) + text[:5])
        one.close()
        with pytest.raises(EOFError):
            wire.receive(other, most_bytes=0)
