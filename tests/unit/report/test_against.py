"""Own results beside printed ones."""

import json
from pathlib import Path

import pytest

from kinema.data.classes import read_class_names
from kinema.errors import KinemaError, UnknownNameError
from kinema.models.zoo import create_model
from kinema.report.accuracies import printed_accuracies
from kinema.report.against import beside_printed, own_results

STUDY = Path(__file__).parents[3] / "benchmarks" / "studies" / "motion_networks.json"


def evaluation(tmp_path, *, name="tei_resnet50", top1=0.481, clips=1, crops=1, **options):
    """Document of `kinema evaluate --json` on Something-Something V1."""
    net = create_model(name, classes=174, frames=8, **options)
    classes = [{"name": n, "videos": 1, "accuracy": 1.0} for n in read_class_names("something_v1")]
    document = {
        "top1": top1,
        "views": {"clips": clips, "crops": crops},
        "per_class": classes,
        "network": net.spec.to_dict(),
    }
    file = tmp_path / "results.json"
    file.write_text(json.dumps(document))
    return file


def test_equal_settings_give_a_difference(tmp_path):
    own = own_results(evaluation(tmp_path))
    assert own[0].dataset == "something_v1"
    pairs = beside_printed(own, printed_accuracies(paper="tei"))
    assert [(p.row.source, p.row.top1, p.differing) for p in pairs] == [
        ("TEINet, table 1a", 47.4, ()),
        ("TEINet, table 1c", 47.4, ()),
        ("TEINet, table 2", 47.4, ()),
        ("TEINet, table 3", 47.4, ()),
    ]
    assert pairs[0].points == pytest.approx(0.7)


def test_the_places_of_the_modules_choose_the_row(tmp_path):
    own = own_results(evaluation(tmp_path, stages=(4,)))
    (pair,) = beside_printed(own, printed_accuracies(paper="tei"))
    assert (pair.row.source, pair.row.config) == ("TEINet, table 1b", "stage=res4")


def test_other_settings_are_named(tmp_path):
    file = evaluation(tmp_path, name="tsi_resnet18", clips=2, crops=3)
    rows = printed_accuracies(paper="tsi", dataset="something_v2", frames="16")
    pairs = beside_printed(own_results(tmp_path), rows)  # the folder of the file
    assert own_results(tmp_path) == own_results(file)
    assert [pair.differing for pair in pairs] == [
        (
            "backbone: resnet18, not resnet50",
            "data set: something_v1, not something_v2",
            "frames: 8, not 16",
            "clips: 2, not 10",
        )
    ]
    assert pairs[0].points is None


def test_a_sweep_has_a_result_for_every_variant():
    own = own_results(STUDY)
    assert [o.name for o in own] == ["TSN", "TSM", "TIM", "TEINet", "TEA", "GTE", "TSI", "TANet"]
    tanet = own[-1]
    assert (tanet.network, tanet.frames, tanet.clips, tanet.dataset) == ("tam_resnet18", 8, 1, None)
    assert tanet.insertions[0]["options"]["opposed"] is True
    pairs = beside_printed(own, printed_accuracies(paper="tsi", dataset="something_v1", frames="8"))
    assert [(p.own.name, p.row.top1) for p in pairs if p.row.source == "TSI, table 8"] == [
        ("TSN", 19.7),
        ("TSM", 43.4),
        ("TEINet", 47.4),
        ("TSI", 50.2),
    ]
    assert {d for p in pairs if p.own.name == "TSI" for d in p.differing} == {
        "backbone: resnet18, not resnet50",
        "data set: other videos, not something_v1",
    }


def test_the_first_variants_settings_are_its_own(tmp_path):
    document = json.loads(STUDY.read_text())
    document["recipe"]["model"] |= {"temporal": "tei", "stages": [5]}
    document["variants"] = {"TSN": ["model.temporal=tei", "model.stages=[5]"], "TEINet": []}
    document["rows"] = [
        {**row, "model": "tei_resnet18"}
        for row in document["rows"]
        if row["variant"] in document["variants"]
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    one, all_stages = own_results(path)
    assert {stage for stage, _ in one.insertions[0]["blocks"]} == {5}
    assert {stage for stage, _ in all_stages.insertions[0]["blocks"]} == {2, 3, 4, 5}


def test_a_variant_of_parts_keeps_their_places(tmp_path):
    document = json.loads(STUDY.read_text())
    parts = 'model.parts=[{ module = "mem", stages = [5] }, { module = "tim" }]'
    document["variants"]["TEINet"] = [parts]
    document["rows"] = [{**row, "model": "mem+tim_resnet18"} for row in document["rows"][3:4]]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    (own,) = own_results(path)
    stages = [{stage for stage, _ in part["blocks"]} for part in own.insertions]
    assert stages == [{5}, {2, 3, 4, 5}]


def test_files_without_results_are_named(tmp_path):
    with pytest.raises(KinemaError, match="results.json has no results of `kinema evaluate"):
        own_results(tmp_path)
    file = evaluation(tmp_path, name="tei_resnet18", top1=None)
    with pytest.raises(KinemaError, match="has no accuracy: its videos have no labels"):
        own_results(file)


def test_networks_of_no_row(tmp_path):
    own = own_results(evaluation(tmp_path, name="tin_resnet18"))
    with pytest.raises(
        UnknownNameError, match="None of the chosen rows is about a network of these: tin_resnet18"
    ):
        beside_printed(own, printed_accuracies())
