"""kill -9 at any moment leaves the last good state, whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kinema.models.saved import load_saved, put_back

from ..causal import LABELS, save_causal

SCRIPT = Path(__file__).with_name("writers.py")


@pytest.mark.slow
def test_writers_that_are_killed_leave_whole_files(color_set, tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(color_set / "red" / "0.mp4"), "30"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert answer.returncode == 0, answer.stderr
    rows = [json.loads(line) for line in answer.stdout.splitlines()]
    assert len(rows) == 30
    assert all(row["killed"] for row in rows)
    numbers = [row["number"] for row in rows]
    assert numbers == sorted(numbers)
    assert numbers[-1] > numbers[0]  # and the writers do go on


def test_a_network_that_was_moved_aside_is_put_back(tmp_path):
    """The one moment between two names: the old network has gone, the new one is not there yet."""
    saved = save_causal(tmp_path / "best")
    aside = tmp_path / ".best.old.x1y2"
    aside.mkdir()
    os.replace(saved, aside / "best")
    put_back(saved)
    assert load_saved(saved).labels == LABELS
    newer = save_causal(tmp_path / "newer", causal=False)
    os.replace(newer, aside / "best")
    put_back(saved)  # one that is there stays
    assert load_saved(saved).net.spec.to_dict() != load_saved(aside / "best").net.spec.to_dict()
