"""The synthetic motion set: pairs that are each other's reverse, exact files, safe folders."""

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kinema.data.annotations import read_annotations
from kinema.data.decode import open_source
from kinema.data.motion import MOTION_CLASSES, REVERSED_PAIRS
from kinema.data.synthetic import MotionSettings, render_motion_set, render_video
from kinema.errors import KinemaError, OptionError

TINY = MotionSettings(
    train_per_class=2, val_per_class=1, size_px=32, min_frames=8, max_frames=10, seed=3
)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Path:
    return render_motion_set(tmp_path_factory.mktemp("set") / "motion", settings=TINY, workers=0)


def digests(root: Path) -> dict[str, str]:
    return {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(root.rglob("*.mp4"))
    }


@pytest.mark.parametrize(("forward", "backward"), REVERSED_PAIRS)
def test_the_classes_of_a_pair_are_each_others_reverse(forward, backward):
    settings = MotionSettings(size_px=32, camera=1.0, speed_range=3, scale_range=2)
    for seed in range(3):
        there = render_video(forward, (seed,), settings)
        back = render_video(backward, (seed,), settings)
        assert np.array_equal(there[::-1], back)
        assert not np.array_equal(there, back)


def test_motions_go_where_their_names_say():
    settings = MotionSettings(size_px=64, camera=0)

    def center(frame: np.ndarray) -> np.ndarray:
        bright = (frame.max(axis=2) > 180).astype(float)
        rows, columns = np.indices(bright.shape)
        return np.array([(rows * bright).sum(), (columns * bright).sum()]) / bright.sum()

    for seed in range(5):
        right, up, near = (
            render_video(name, (seed,), settings) for name in ("move_right", "move_up", "approach")
        )
        assert center(right[-1])[1] > center(right[0])[1] + 5
        assert center(up[-1])[0] < center(up[0])[0] - 5
        assert (near[-1].max(axis=2) > 180).sum() > 1.5 * (near[0].max(axis=2) > 180).sum()


def test_the_set_is_an_ordinary_annotated_data_set(rendered):
    train = read_annotations(rendered / "train.csv", classes=rendered / "classes.txt")
    assert train.class_names == MOTION_CLASSES
    assert len(train.samples) == 2 * len(MOTION_CLASSES)
    sample = train.samples[0]
    with open_source(rendered / "videos" / sample.path) as source:
        assert 8 <= source.info.frames <= 10
        assert (source.info.width, source.info.height) == (32, 32)
        frames = source.read(range(source.info.frames)).permute(0, 2, 3, 1).numpy()
    with (rendered / "train.csv").open() as file:
        seed = tuple(int(n) for n in next(csv.DictReader(file))["seed"].split("-"))
    original = render_video(MOTION_CLASSES[0], seed, TINY)
    assert np.abs(frames.astype(int) - original).mean() < 6  # chroma at half resolution


def test_every_frame_is_coded_by_itself(rendered):
    import av

    with av.open(str(next(rendered.rglob("*.mp4")))) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert all(packet.is_keyframe for packet in packets)


def test_a_complete_set_is_left_as_it_is(rendered):
    before = {file: file.stat().st_mtime_ns for file in rendered.rglob("*")}
    render_motion_set(rendered, settings=TINY, workers=0)
    assert {file: file.stat().st_mtime_ns for file in rendered.rglob("*")} == before


def test_an_interrupted_set_is_completed_to_the_same_files(rendered, tmp_path):
    root = render_motion_set(tmp_path / "motion", settings=TINY, workers=0)
    settings = json.loads((root / "settings.json").read_text())
    (root / "settings.json").write_text(json.dumps({**settings, "complete": False}))
    for file in list(root.rglob("*.mp4"))[::3]:
        file.unlink()
    render_motion_set(root, settings=TINY, workers=0)
    assert digests(root) == digests(rendered)


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(rendered, tmp_path):
    done = []
    root = render_motion_set(
        tmp_path / "motion",
        settings=TINY,
        workers=2,
        progress=lambda count, total: done.append((count, total)),
    )
    assert digests(root) == digests(rendered)
    assert done[-1] == (42, 42)


def test_other_content_is_never_overwritten(rendered, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(KinemaError, match="is not empty and holds no motion set"):
        render_motion_set(tmp_path, settings=TINY, workers=0)
    with pytest.raises(KinemaError, match=r"other settings \(camera, seed\)"):
        other = MotionSettings(**{**vars(TINY), "seed": 4, "camera": 0.5})
        render_motion_set(rendered, settings=other, workers=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size_px": 33}, "size_px must be even and at least 32, got 33"),
        ({"train_per_class": 0}, "must be at least 1"),
        ({"min_frames": 4}, "at least 8 and ascending, got 4"),
        ({"camera": 1.5}, "camera must be between 0 and 1, got 1.5"),
        ({"speed_range": 0.5}, "ratios of at least 1"),
        ({"rate_hz": 0}, "rate_hz must be at least 1"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(OptionError, match=message):
        MotionSettings(**change)


def test_rendering_does_not_load_pytorch():
    code = "import sys, kinema.data.synthetic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
