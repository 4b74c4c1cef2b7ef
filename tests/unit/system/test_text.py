"""Text of strangers."""

import pytest

from kinema.system.text import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("a\r\x9b2J", "a\\r\\x9b2J"),
        ("gpj\u202e.exe", "gpj\\u202e.exe"),
        ("caf\udce9", "caf\\udce9"),
        ("two\nlines\tand caf\u00e9 \U0001f468\u200d\U0001f469", None),
    ],
)
def test_control_characters_become_escapes(text, shown):
    assert visible(text) == (text if shown is None else shown)
