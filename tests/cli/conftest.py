"""Runs the command in this process, as the installed program would."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kinema.cli import main
from kinema.synthetic.motion_set import MotionSettings, render_motion_set


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


@pytest.fixture(scope="module")
def motion_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen tiny videos for training and as many for validation."""
    tiny = MotionSettings(
        train_per_class=1, val_per_class=1, size_px=32, min_frames=8, max_frames=8
    )
    return render_motion_set(tmp_path_factory.mktemp("motion"), settings=tiny, workers=0)
