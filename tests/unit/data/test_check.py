"""`check_dataset` finds each kind of fault and no other."""

import shutil

from kinema.data.annotations import read_annotations
from kinema.data.check import check_dataset
from kinema.data.dataset import VideoDataset
from kinema.types import Annotations, Sample


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
