"""`check_dataset` finds each kind of fault and no other."""

import shutil

import av
import pytest

from kinema.data.annotations import read_annotations
from kinema.data.check import check_dataset, doubt_about
from kinema.data.dataset import VideoDataset
from kinema.values import Annotations, Sample


def test_a_good_set_has_no_faults(few_videos):
    done = []
    videos = VideoDataset(read_annotations(few_videos, format="folders"), few_videos)
    report = check_dataset({"all": videos}, progress=lambda *counts: done.append(counts))
    assert (report.videos, report.ok, report.bad) == (6, 6, ())
    assert done[-1] == (6, 6)


def test_every_fault_is_named_with_its_split(few_videos, tmp_path):
    root = tmp_path / "videos"
    shutil.copytree(few_videos, root)
    (root / "left" / "1.mp4").write_bytes(b"nothing")
    shutil.copy(root / "right" / "0.mp4", root / "right" / "copy.mp4")
    names = ("left", "right")
    train = Annotations(
        (Sample("left/1.mp4", 0), Sample("right/0.mp4", 1), Sample("right/0.mp4", 1)), names, "t"
    )
    val = Annotations(
        (Sample("right/copy.mp4", 1), Sample("left/none.mp4", 0), Sample("left/5.mp4", 0)),
        names,
        "v",
    )
    splits = {"train": VideoDataset(train, root), "val": VideoDataset(val, root)}
    report = check_dataset(splits, min_frames=26)
    reasons = [(bad.split, bad.path, bad.reason) for bad in report.bad]
    assert report.videos == 6
    assert "damaged or not a video" in reasons[0][2]
    assert reasons[1][2] == "only 20 frames, fewer than 26"
    assert reasons[2][2] == "listed twice, also in train: right/0.mp4"
    assert "does not exist" in reasons[4][2]
    report = check_dataset(splits)
    by_path = {bad.path: bad.reason for bad in report.bad if bad.split == "val"}
    assert by_path["right/copy.mp4"] == "same content as train: right/0.mp4"
    assert "left/5.mp4" not in by_path


@pytest.fixture
def root(few_videos, tmp_path):
    return shutil.copytree(few_videos, tmp_path / "videos")


@pytest.fixture
def report_on(root):
    def report(*samples: Sample, **options):
        rows = Annotations(samples, ("left", "right"), "rows.csv")
        return check_dataset({"all": VideoDataset(rows, root)}, **options)

    return report


def test_rows_must_fit_into_their_video(report_on):
    report = report_on(
        Sample("right/0.mp4", 1, 0, 12),
        Sample("right/0.mp4", 1, 12, 8),
        Sample("right/0.mp4", 1, 15, 9),
        Sample("right/0.mp4", 1, 20),
        min_frames=10,
    )
    assert [bad.reason for bad in report.bad] == [
        "only 8 frames, fewer than 10",
        "only 20 frames, but the row needs 9 from frame 15 on",
        "only 20 frames, but the row needs 0 from frame 20 on",
    ]
    assert (report.videos, report.ok) == (4, 1)


def test_a_label_must_be_one_of_the_classes(report_on):
    report = report_on(Sample("right/0.mp4", 2), Sample("left/1.mp4", None))
    assert [bad.reason for bad in report.bad] == ["label 2 is outside the 2 classes"]


def test_a_path_in_three_spellings_is_listed_twice(report_on, root):
    report = report_on(
        Sample("right/0.mp4", 1), Sample("./right/0.mp4", 1), Sample("left/../right/0.mp4", 1)
    )
    assert [bad.reason for bad in report.bad] == 2 * ["listed twice, also in all: right/0.mp4"]
    (root / "right" / "caf\u00e9.mp4").write_bytes((root / "left" / "5.mp4").read_bytes())
    report = report_on(Sample("right/caf\u00e9.mp4", 1), Sample("right/cafe\u0301.mp4", 1))
    assert [bad.reason for bad in report.bad] == ["listed twice, also in all: right/caf\u00e9.mp4"]


def test_a_backslash_and_a_missing_suffix_are_named(report_on, root):
    report = report_on(Sample("right\\0.mp4", 1), Sample("left/1", 0))
    assert [bad.reason for bad in report.bad] == [
        f"{root}/right\\0.mp4 does not exist. {root}/right/0.mp4 does: "
        "write paths with / instead of \\.",
        f"{root}/left/1 does not exist. {root}/left/1.mp4 does: add the suffix.",
    ]


@pytest.mark.parametrize(
    ("labels", "classes", "reason"),
    [
        ([0, 0], 2, "every label is 'c0' (2 videos), so there is nothing to tell apart"),
        ([0], 1, "every label is 'c0' (1 videos), so there is nothing to tell apart"),
        ([1, 2], 5, "3 of 5 classes have no video"),
        ([0, 1], 4, ""),
        ([None, None], 3, ""),
    ],
)
def test_labels_that_cannot_be_right_are_said(labels, classes, reason):
    samples = tuple(Sample(f"{n}.mp4", label) for n, label in enumerate(labels))
    names = tuple(f"c{n}" for n in range(classes))
    assert doubt_about(Annotations(samples, names, "a.csv")) == reason


def test_files_of_one_size_are_copies_only_with_equal_content(report_on, root):
    content = (root / "right" / "0.mp4").read_bytes()
    for name, tail in (("a", b"\0" * 7 + b"\0"), ("b", b"\0" * 7 + b"\1"), ("c", b"\0" * 8)):
        # An empty box of the MP4 format, so the files stay good.
        box = b"\0\0\0\x10free" + tail
        (root / f"{name}.mp4").write_bytes(content + box)
    report = report_on(*(Sample(f"{name}.mp4", 0) for name in "abc"))
    assert [(bad.path, bad.reason) for bad in report.bad] == [
        ("c.mp4", "same content as all: a.mp4")
    ]


def test_strict_finds_damage_in_the_middle(report_on, root):
    damaged = root / "damaged.mp4"
    shutil.copy(root / "left" / "5.mp4", damaged)
    with av.open(str(damaged)) as container:
        packet = [p for p in container.demux(video=0) if p.size][10]
        place, size = packet.pos, packet.size
    content = bytearray(damaged.read_bytes())
    content[place : place + size] = b"\xff" * size
    damaged.write_bytes(content)
    assert report_on(Sample("damaged.mp4", 0)).ok == 1
    report = report_on(Sample("damaged.mp4", 0), strict=True)
    assert "damaged.mp4 cannot be read: only 10 of its 25 frames" in report.bad[0].reason
