"""`kinema bench` prints a table and keeps the measurement."""

import json

import pytest


@pytest.mark.slow
def test_a_measurement_is_printed_and_kept(kinema, tmp_path):
    out = tmp_path / "results" / "model.json"
    sizes = ("--batch", 1, "--batch", 2, "--frames", 2, "--size", 32, "--rounds", 1)
    sizes += ("--difference-from", "tsm_test_resnet")
    words = ("bench", "model", "tsn_test_resnet", "tsm_test_resnet", "--form", "eager-32", *sizes)
    answer = kinema(*words, "--out", out)
    assert answer.code == 0, answer.err
    assert "tsm_test_resnet" in answer.out
    assert "ratio: time over that of the plain backbone" in answer.out
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert kept["command"].startswith("kinema bench model tsn_test_resnet")
    assert kept["versions"]["torch"]
    names = [(row["model"], row["batch"]) for row in kept["rows"]]
    assert names == [(f"{name}_test_resnet", batch) for batch in (1, 2) for name in ("tsn", "tsm")]
    for row in kept["rows"]:
        assert row["videos_per_s"] > 0
        assert (row["difference_ms"] == 0) == (row["model"] == "tsm_test_resnet")
    assert len(kinema(*words, "--json").document["rows"]) == 4


def test_unknown_forms_are_named(kinema):
    answer = kinema("bench", "model", "tsn_test_resnet", "--form", "eagr-32")
    assert answer.code == 1
    assert "Did you mean 'eager-32'" in answer.err
