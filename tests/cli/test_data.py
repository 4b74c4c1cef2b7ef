"""`kinema data synth`, `check`, `convert` and `prepare`."""

import sys

from kinema.data.annotations import FORMATS, read_annotations
from kinema.synthetic.motion import MOTION_CLASSES

SMALL = ("--train", 1, "--val", 1, "--size", 32)


def test_a_set_that_is_good_then_damaged(kinema, color_set, tmp_path):
    words = ("data", "check", color_set / "val.csv", "--root", color_set)
    answer = kinema(*words, "--json")
    assert answer.code == 0
    assert answer.document == {"videos": 6, "ok": 6, "bad": [], "doubtful": []}
    assert "6 of 6 videos are good" in kinema(*words).out
    damaged = tmp_path / "damaged.csv"
    damaged.write_text("path,label\nred/0.mp4,red\ngone.mp4,red\nred/0.mp4,blue\n")
    answer = kinema("data", "check", damaged, "--root", color_set, "--json")
    assert answer.code == 1
    assert (answer.document["videos"], answer.document["ok"]) == (3, 1)
    gone, twice = answer.document["bad"]
    assert (gone["path"], twice["path"]) == ("gone.mp4", "red/0.mp4")
    assert "does not exist" in gone["reason"]
    assert "listed twice" in twice["reason"]
    table = kinema("data", "check", damaged, "--root", color_set)
    assert table.code == 1
    assert "1 of 3 videos are good" in table.out
    assert "2 videos need attention" in table.err


def test_check_knows_one_video_in_two_splits(kinema, color_set, tmp_path):
    other = tmp_path / "train.csv"
    other.write_text("path,label\nred/0.mp4,red\ngreen/0.mp4,green\nblue/0.mp4,blue\n")
    words = ("data", "check", other, color_set / "val.csv", "--root", color_set, "--json")
    bad = kinema(*words).document["bad"]
    assert [row["path"] for row in bad] == ["red/0.mp4", "green/0.mp4", "blue/0.mp4"]
    assert all(row["split"] == str(color_set / "val.csv") for row in bad)


def test_convert_writes_what_check_reads(kinema, color_set, tmp_path):
    out = tmp_path / "all.csv"
    words = ("data", "convert", color_set, out, "--format", "folders")
    document = kinema(*words, "--json").document
    assert document == {"out": str(out), "videos": 6, "classes": 3}
    assert out.read_text().splitlines()[:2] == [
        "path,label,start_frame,frames",
        "blue/0.mp4,blue,0,",
    ]
    assert kinema("data", "check", out, "--root", color_set).code == 0
    assert (tmp_path / "all.classes.txt").read_text() == "blue\ngreen\nred\n"
    again = kinema(*words)
    assert again.code == 2
    assert "already exists" in again.err


def test_converted_folders_named_by_numbers_are_read_back(kinema, color_set, tmp_path):
    for number, name in enumerate(("red", "green", "blue"), start=1):
        (tmp_path / "years" / f"202{number}").mkdir(parents=True)
        video = color_set / name / "0.mp4"
        (tmp_path / "years" / f"202{number}" / "a.mp4").write_bytes(video.read_bytes())
    out = tmp_path / "years.csv"
    answer = kinema("data", "check", tmp_path / "years", "--format", "folders")
    assert answer.code == 0
    assert "3 of 3 videos are good" in answer.out
    assert all(f"\u2502 202{number}" in answer.out for number in (1, 2, 3))
    assert kinema("data", "convert", tmp_path / "years", out, "--format", "folders").code == 0
    found = read_annotations(out, classes=tmp_path / "years.classes.txt")
    assert found.samples == read_annotations(tmp_path / "years", format="folders").samples
    assert found.class_names == ("2021", "2022", "2023")


def test_check_says_labels_that_cannot_be_right(kinema, color_set, tmp_path):
    (tmp_path / "one.csv").write_text("path,label\nred/0.mp4,red\nblue/0.mp4,red\n")
    words = ("data", "check", tmp_path / "one.csv", "--root", color_set)
    reason = "every label is 'red' (2 videos), so there is nothing to tell apart"
    answer = kinema(*words)
    assert answer.code == 1  # as of a training
    assert f"one.csv: {reason}. Are the labels right?" in " ".join(answer.out.split())
    said = " ".join(answer.err.split())
    assert "one.csv would stop: mend its labels or --classes, or accept" in said
    assert "--empty-classes allow (data.empty_classes=allow in a training)" in said
    answer = kinema(*words, "--json")
    assert answer.code == 1
    doubts = [{"split": str(tmp_path / "one.csv"), "reason": reason}]
    assert answer.document["doubtful"] == doubts
    answer = kinema(*words, "--json", "--empty-classes", "allow")
    assert (answer.code, answer.document["doubtful"]) == (0, doubts)
    (tmp_path / "train.csv").write_text("path,label\nred/1.mp4,red\nblue/1.mp4,blue\n")
    # Validation may be short: a training goes on.
    answer = kinema(*words[:2], tmp_path / "train.csv", *words[2:], "--json")
    assert (answer.code, answer.document["doubtful"]) == (0, doubts)
    (tmp_path / "classes.txt").write_text("red\nblue\nx\ny\nz\n")
    answer = kinema(
        *words[:2], tmp_path / "train.csv", *words[3:], "--classes", tmp_path / "classes.txt"
    )
    assert answer.code == 1
    assert "train.csv: 3 of 5 classes have no video." in " ".join(answer.out.split())
    (tmp_path / "class.csv").write_text("path,class\nred/0.mp4,red\n")
    answer = kinema("data", "check", tmp_path / "class.csv", "--root", color_set)
    assert answer.code == 1
    assert "there is no column 'label', but 'class'" in " ".join(answer.err.split())


MOMENTS = """
from kinema.data.annotations import register_format
from kinema.data.classes import ClassList
from kinema.values import Sample


def read_moments(request):
    rows = [(place, *line.split(",")) for place, line in request.lines()]
    classes = ClassList.given_or_found(request.class_names, {row[2] for row in rows}, request.path)
    samples = [Sample(row[1], classes.label_of(row[2], row[0])) for row in rows]
    return request.annotations(samples, classes)


register_format("moments", read_moments)
"""


def test_a_plugin_adds_an_annotation_format(kinema, color_set, tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_PLUGINS", "")
    (tmp_path / "moments_lists.py").write_text(MOMENTS)
    rows, out = tmp_path / "moments.csv", tmp_path / "plain.csv"
    rows.write_text("red/0.mp4,red,3,0\nblue/0.mp4,blue,3,1\n")
    words = ("data", "convert", rows, out, "--format", "moments")
    assert "Unknown annotation format 'moments'" in kinema(*words).err
    try:
        document = kinema("--plugin", tmp_path / "moments_lists.py", *words, "--json").document
    finally:
        FORMATS.pop("moments", None)
        sys.modules.pop("kinema_plugin_moments_lists", None)
    assert (document["videos"], document["classes"]) == (2, 2)
    assert out.read_text().splitlines()[1:] == ["red/0.mp4,red,0,", "blue/0.mp4,blue,0,"]


def test_prepare_makes_copies_that_fit_the_annotations(kinema, color_set, tmp_path):
    out = tmp_path / "small"
    words = ("data", "prepare", color_set / "val.csv", "--root", color_set, "--out", out)
    words += ("--short-side", 32, "--workers", 0)
    document = kinema(*words, "--json").document
    sizes = [sum(p.stat().st_size for p in d.rglob("*.mp4")) for d in (color_set, out)]
    assert document == {
        **{"videos": 6, "ok": 6, "bad": []},
        **{"bytes_before": sizes[0], "bytes_after": sizes[1]},
    }
    assert kinema("data", "check", color_set / "val.csv", "--root", out, "--strict").code == 0
    assert kinema("data", "check", out / "val.csv").code == 0
    again = kinema(*words)
    assert (again.code, f"6 of 6 videos are in {out}" in again.out) == (0, True)
    other = kinema(*words, "--short-side", 48)
    assert (other.code, "other settings (short_side_px)" in other.err) == (1, True)


def test_prepare_names_bad_videos(kinema, color_set, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("path,label\nred/0.mp4,red\ngone.mp4,blue\n")
    words = ("data", "prepare", rows, "--root", color_set, "--workers", 0, "--out")
    answer = kinema(*words, tmp_path / "a", "--json")
    assert answer.code == 1
    assert (answer.document["ok"], answer.document["bad"][0]["path"]) == (1, "gone.mp4")
    said = kinema(*words, tmp_path / "b")
    assert said.code == 1
    assert "1 of 2 videos are in" in said.out
    assert "gone.mp4 does not exist" in said.err


def test_wrong_lines_are_named(kinema, color_set, tmp_path):
    (tmp_path / "list.txt").write_text("a.mp4 10 zero\n")
    answer = kinema(
        *("data", "convert", tmp_path / "list.txt", tmp_path / "x.csv", "--format", "video_list")
    )
    assert answer.code == 1
    assert "list.txt, line 1" in answer.err
    assert not (tmp_path / "x.csv").exists()


def test_synth_renders_a_set(kinema, tmp_path):
    document = kinema("data", "synth", tmp_path / "motion", *SMALL, "--json").document
    assert document["videos"] == 2 * len(MOTION_CLASSES)
    assert len(list((tmp_path / "motion" / "videos").rglob("*.mp4"))) == document["videos"]
    root = tmp_path / "motion" / "videos"
    assert kinema("data", "check", tmp_path / "motion" / "val.csv", "--root", root).code == 0
    other = kinema("data", "synth", tmp_path / "motion", *SMALL, "--seed", 1)
    assert other.code == 1
    assert "other settings (seed)" in other.err


def test_synth_refuses_wrong_numbers(kinema, tmp_path):
    answer = kinema("data", "synth", tmp_path / "motion", "--size", 33)
    assert answer.code == 1
    assert "size_px must be even and at least 32, got 33" in answer.err
    assert not (tmp_path / "motion").exists()


def test_check_counts_the_videos_of_each_class(kinema, color_set):
    words = ("data", "check", color_set / "val.csv", "--root", color_set)
    rows = [line.split("│") for line in kinema(*words).out.splitlines() if "│" in line]
    assert [[cell.strip() for cell in row[1:3]] for row in rows] == [
        ["blue", "2"],
        ["green", "2"],
        ["red", "2"],
    ]
