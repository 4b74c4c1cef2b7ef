"""`kinema bench` prints a table and keeps the measurement."""

import json

import pytest


@pytest.mark.slow
def test_a_measurement_is_printed_and_kept(kinema, tmp_path):
    out = tmp_path / "results" / "model.json"
    sizes = ("--batch", 1, "--frames", 2, "--size", 32, "--rounds", 1)
    words = ("bench", "model", "tsn_test_resnet", "tsm_test_resnet", "--form", "eager-32", *sizes)
    answer = kinema(*words, "--out", out)
    assert answer.code == 0, answer.err
    assert "tsm_test_resnet" in answer.out
    assert "ratio: time over that of the plain backbone" in answer.out
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert kept["command"].startswith("kinema bench model tsn_test_resnet")
    assert kept["versions"]["torch"]
    assert [row["model"] for row in kept["rows"]] == ["tsn_test_resnet", "tsm_test_resnet"]
    assert len(kinema(*words, "--json").document["rows"]) == 2


def test_unknown_forms_are_named(kinema):
    answer = kinema("bench", "model", "tsn_test_resnet", "--form", "eagr-32")
    assert answer.code == 1
    assert "Did you mean 'eager-32'" in answer.err
