"""Runs the command in this process, as the installed program would."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from kinema.cli import main


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


@pytest.fixture
def kinema(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Answer]:
    """Calls `kinema WORDS...`; stdout and stderr are no terminals."""

    def call(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["kinema", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main.run()
        written = capsys.readouterr()
        return Answer(int(stop.value.code or 0), written.out, written.err)

    return call
