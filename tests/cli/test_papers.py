"""`kinema papers`."""

from pathlib import Path

import pytest

import kinema as package
from kinema.data.classes import read_class_names
from kinema.report import papers

STUDY = Path(__file__).parents[2] / "benchmarks" / "studies" / "motion_networks.json"
# Printed figures that no way to count meets, and by how much the counted number is off.
MISSED = {
    ("TEINet, table 2", "tim_resnet50", 8, "params"): "0.3 % high",
    ("TEINet, table 2", "tim_resnet50", 16, "params"): "0.3 % high",
    ("TSI, table 1", "tea_res2net50_26w_4s", 16, "gflops"): "1.3 % low",
    ("TSI, table 2", "stm_resnet50", 16, "gflops"): "1.4 % low",
    ("TSI, table 8", "stm_resnet50", 16, "gflops"): "0.7 % low",
    ("GTE, table 2", "tsm_resnet50", 16, "gflops"): "98.2 % high",
    ("GTE, table 2", "gst_resnet50", 8, "gflops"): "1.7 % low",
    ("GTE, table 2", "gst_resnet50", 16, "gflops"): "1.7 % low",
    ("GTE, table 2", "gte_resnet50", 16, "gflops"): "0.2 % high",
    ("GTE, section 3.2", "gte_resnet50", 8, "params"): "0.8 % low",
    ("TSI, section 1", "tsi_resnet50", 8, "ratio"): "3.4 % high",
}
# GFLOPs that another rule than ours meets.
BY_RULE = {
    ("tsi_resnet50", 8),
    ("tsi_resnet50", 16),
    ("tsm_resnet50", 16),
    ("cti_resnet50", 16),
    ("c2d_resnet50", 8),
    ("c2d_tconv_resnet50", 8),
    ("i3d_resnet50", 8),
    ("nl_resnet50", 8),
}


def test_a_pattern_selects(kinema):
    answer = kinema("papers", "tsn*", "--json")
    assert answer.code == 0
    (row,) = answer.document["rows"]
    cost = package.create_model("tsn_resnet50", classes=400).cost()
    assert (row["model"], row["frames"], row["size_px"]) == ("tsn_resnet50", 8, 224)
    assert row["params"] == {
        "published": "24.3M",
        "counted": cost.params,
        "difference": pytest.approx(cost.params / 24.3e6 - 1),
        "verdict": "met",
    }
    assert row["gflops"]["counted"] == pytest.approx(cost.macs / 1e9)
    assert (row["gflops"]["published"], row["gflops"]["verdict"]) == ("33", "met")
    assert (row["gflops_by_rule"], row["our_reading"]) == (None, True)
    assert answer.document["open_points"] == []


def test_another_way_to_count_has_its_own_line(kinema):
    answer = kinema("papers", "i3d*")
    assert answer.code == 0
    lines = [line.split() for line in answer.out.splitlines()]
    assert ["400", "classes", "GFLOPs", "62.55", "62.309", "0.4", "%", "low"] in lines
    assert ["or", "62.548", "met", "1"] in lines
    assert " 1  Counted as older versions" in answer.out.split("Notes")[1]
    assert "1 of 2 printed figures are met, 1 more if counted in another way" in answer.out
    assert "Inflation of I3D and C3D" in answer.out.split("leave open")[1]


def test_everything_fits_a_narrow_terminal(kinema, monkeypatch):
    def wide(row) -> tuple[int, int, int | None]:
        return 124_597_000, 124_597_000_000, row.rule and 124_597_000_000

    monkeypatch.setattr(papers, "_count", wide)
    monkeypatch.setattr("kinema.cli.console.FILE_COLUMNS", 80)
    answer = kinema("papers")
    assert max(map(len, answer.out.splitlines())) <= 80
    assert "…" not in answer.out
    assert "124.597M" in answer.out


@pytest.mark.slow
def test_a_multiple_of_another_network(kinema):
    rows = kinema("papers", "tsi_*", "--json").document["rows"]
    (ratio,) = [row["ratio"] for row in rows if row["ratio"]]
    counted = pytest.approx(1.0655, abs=1e-4)
    assert (ratio["published"], ratio["to"], ratio["counted"]) == ("1.03", "tsn_resnet50", counted)
    lines = [" ".join(line.split()) for line in kinema("papers", "tsi_*").out.splitlines()]
    assert "tsi_resnet50 8 x 224 px ratio 1.03 1.065 3.4 % high 1" in lines


def test_figures_that_are_not_printed_have_no_verdict(kinema):
    (row,) = kinema("papers", "gst_large*", "--json").document["rows"]
    assert row["params"]["counted"] == 29_523_182
    for figure in (row["params"], row["gflops"]):
        assert figure["published"] is figure["verdict"] is figure["difference"] is None
    assert "-" in kinema("papers", "gst_large*").out


def test_a_pattern_that_matches_nothing(kinema):
    answer = kinema("papers", "tsm_resnet51", "--json")
    assert (answer.code, answer.out) == (1, "")
    assert "Did you mean 'tsm_resnet50'?" in answer.err


@pytest.mark.slow
def test_every_figure_is_met_but_for_the_known_ones(kinema):
    document = kinema("papers", "--json").document
    missed, by_rule = {}, set()
    for row in document["rows"]:
        for name in ("params", "gflops", "ratio"):
            met = (row[name] or {}).get("verdict") in (None, "met")
            if met or not row["our_reading"]:
                continue
            if name == "gflops" and (row["gflops_by_rule"] or {}).get("verdict") == "met":
                by_rule.add((row["model"], row["frames"]))
            else:
                key = (row["source"], row["model"], row["frames"], name)
                missed[key] = row[name]["verdict"]
                assert row["note"], f"{key} needs a note"
    assert missed == MISSED
    assert by_rule == BY_RULE
    assert [point["number"] for point in document["open_points"]] == list(range(1, 23))


@pytest.mark.slow
def test_excluded_readings_are_off(kinema):
    rows = kinema("papers", "t[es]i_*", "--json").document["rows"]
    others = {
        (*row["options"].items(), row["frames"]): (
            row["params"]["verdict"],
            row["gflops"]["verdict"],
        )
        for row in rows
        if not row["our_reading"]
    }
    assert others == {
        (("at", "b"), 8): ("18.4 % low", "met"),
        (("at", "c"), 8): ("18.4 % low", "met"),
        (("at", "d"), 8): ("5.1 % high", "met"),
        (("alignment", False), 8): (None, "3.4 % low"),
        (("alignment", False), 16): (None, "3.3 % low"),
    }


def test_printed_accuracies_with_their_settings(kinema):
    answer = kinema("papers", "--paper", "tsi", "--dataset", "something_v1", "--frames", "64")
    assert answer.code == 0
    lines = [line.split() for line in answer.out.splitlines()]
    assert ["TSI,", "table", "1,", "something_v1"] in lines
    assert ["S3D-G", "-", "64", "1x1", "71", "48.2", "78.7", "1"] in lines
    assert ["I3D", "-", "64", "1x1", "360", "41.6", "-", "2"] in lines
    assert "2 rows. A dash stands for" in answer.out


def test_printed_accuracies_as_json(kinema):
    rows = kinema("papers", "tim_*", "--accuracies", "--json").document["rows"]
    assert [(row["source"], row["frames"], row["top1"]) for row in rows] == [
        ("TEINet, table 1a", None, 46.1),
        ("TEINet, table 2", "8", 46.1),
        ("TEINet, table 2", "16", 48.5),
        ("TSI, table 4", "8", 46.1),
        ("TSI, table 5", "8", 46.1),
    ]


def test_accuracies_fit_a_terminal(kinema, monkeypatch):
    monkeypatch.setattr("kinema.cli.console.FILE_COLUMNS", 100)
    answer = kinema("papers", "--accuracies")
    assert max(map(len, answer.out.splitlines())) <= 100
    assert "…" not in answer.out
    assert "296 rows." in answer.out
    answer = kinema("papers", "--paper", "tsi", "--against", STUDY)
    assert answer.err == "Without a printed row: GTE, TANet\n"
    assert max(map(len, answer.out.splitlines())) <= 100
    assert "…" not in answer.out


def test_an_unknown_paper(kinema):
    answer = kinema("papers", "--paper", "tee")
    assert (answer.code, answer.out) == (1, "")
    assert "has the paper 'tee'. Did you mean 'tei'?" in answer.err


def test_own_results_beside_the_printed_ones(kinema, color_set, tmp_path):
    """The document of `kinema evaluate --out` is what --against reads."""
    names = read_class_names("something_v1")
    net = package.create_model("tei_test_resnet", classes=len(names), frames=8)
    package.save(net, tmp_path / "net", labels=names)
    (tmp_path / "val.csv").write_text(f'path,label\nred/0.mp4,"{names[0]}"\n')
    words = ("evaluate", tmp_path / "net", "--data", tmp_path / "val.csv", "--root", color_set)
    own = kinema(*words, "--workers", 0, "--out", tmp_path / "out", "--json").document["top1"]
    question = ("papers", "--paper", "tei", "--frames", 8, "--against", tmp_path / "out")
    answer = kinema(*question, "--json")
    rows = answer.document["rows"]
    assert [(row["row"]["source"], row["differing"]) for row in rows] == [
        ("TEINet, table 2", ["backbone: test_resnet, not resnet50"]),
        ("TEINet, table 3", ["backbone: test_resnet, not resnet50"]),
    ]
    assert rows[0]["own"]["top1"] == 100 * own
    answer = kinema(*question)
    assert "backbone: test_resnet, not" in answer.out
