"""`kinema quickstart` with few videos and one epoch."""

import pytest

from kinema import Recognizer

SMALL = ("--train", 2, "--val", 1, "train.epochs=1", "schedule.warmup_epochs=0", "data.workers=0")


def test_a_finished_one_is_never_overwritten(kinema, tmp_path):
    (tmp_path / "report.html").write_text("precious")
    answer = kinema("quickstart", "--out", tmp_path)
    assert (answer.code, answer.out) == (1, "")
    assert "holds a finished quick start" in answer.err
    assert "Choose another --out" in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_of_something_else_is_left_alone(kinema, tmp_path):
    (tmp_path / "motion").mkdir()
    (tmp_path / "motion" / "thesis.txt").touch()
    answer = kinema("quickstart", "--out", tmp_path, *SMALL)
    assert answer.code == 1
    assert "hold a motion set, and is neither" in answer.err


@pytest.mark.slow
def test_quickstart_end_to_end(kinema, tmp_path):
    out = tmp_path / "first"
    answer = kinema("quickstart", "--out", out, *SMALL, "--json")
    assert answer.code == 0, answer.err
    document = answer.document
    assert [run["model"] for run in document["runs"]] == ["tsn_test_resnet", "tsm_test_resnet"]
    for run in document["runs"]:
        assert 0 <= run["top1"] <= run["pair_top1"] <= 1
        assert run["train_s"] > 0
    assert len(document["prediction"]["top"]) == 5
    assert document["report"] == str(out / "report.html")
    assert "4/4 Predicting" in answer.err
    page = (out / "report.html").read_text(encoding="utf-8")
    for part in ("tsn_test_resnet", "tsm_test_resnet", "dash_out_creep_back", "kinema predict"):
        assert part in page
    for name in ("tsn", "tsm"):
        assert (out / name / "curves.png").is_file()
        assert (out / name / "confusion.png").is_file()
    prediction = document["prediction"]
    again = Recognizer.load(out / "tsm" / "last").predict(prediction["path"])
    assert [c.name for c in again.top] == [entry["name"] for entry in prediction["top"]]

    # Without its report it counts as interrupted and resumes.
    (out / "report.html").unlink()
    metrics = (out / "tsn" / "metrics.jsonl").read_bytes()
    resumed = kinema("quickstart", "--out", out, *SMALL, "--json")
    assert resumed.code == 0, resumed.err
    assert (out / "tsn" / "metrics.jsonl").read_bytes() == metrics
    assert [run["top1"] for run in resumed.document["runs"]] == [
        run["top1"] for run in document["runs"]
    ]
    (out / "report.html").unlink()
    changed = kinema("quickstart", "--out", out, *SMALL, "optimizer.lr=0.5")
    assert changed.code == 1
    assert "optimizer.lr" in changed.err
