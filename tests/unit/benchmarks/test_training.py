"""Training steps against each other, at sizes that say nothing about speed."""

import pytest
import torch

from benchmarks import training
from benchmarks.training import FORMS, PLAIN, measure_training
from kinema.errors import OptionError

TINY = {"model": "tsm_test_resnet", "batch": 2, "frames": 4, "size_px": 32, "rounds": 2}


@pytest.fixture(autouse=True)
def _no_matrices(monkeypatch):
    monkeypatch.setattr(training, "_matrix_speedup", lambda device: 2.0)


@pytest.mark.slow
def test_every_eager_form_has_a_row():
    told = []
    eager = [name for name in FORMS if name != "+ compile"]
    document = measure_training(forms=eager, progress=told.append, **TINY).document()
    rows = {row["form"]: row for row in document["rows"]}
    assert list(rows) == eager
    assert rows[PLAIN]["ratio"] == 1.0
    assert rows["plain, kept memory"]["ratio_kept"] == 1.0
    assert all(row["ms"] > 0 and row["ratio"] > 0 for row in rows.values())
    assert rows["+ checkpointing"]["peak_mb"] < rows["+ fused optimizer"]["peak_mb"]
    assert document["kind"] == "train"
    assert document["settings"]["against"] == PLAIN
    assert document["settings"]["matrix_speedup"] == 2.0
    assert told == [*(f"building {name}" for name in eager), "measuring"]


def test_plain_is_always_there_and_unknown_forms_are_named():
    rows = measure_training(forms=["+ bf16"], **TINY).rows
    assert [row["form"] for row in rows] == [PLAIN, "+ bf16"]
    assert rows[1]["ratio_kept"] is None
    with pytest.raises(OptionError, match=r"Unknown form 'bf16'.*\+ bf16"):
        measure_training(forms=["bf16"], **TINY)


def test_the_compiled_form_runs(monkeypatch):
    compiled = []

    def quick_compile(net):
        compiled.append(net)
        return net

    monkeypatch.setattr(torch, "compile", quick_compile)
    rows = measure_training(forms=["+ compile"], **TINY).rows
    assert [row["form"] for row in rows] == [PLAIN, "+ compile"]
    assert len(compiled) == 1
