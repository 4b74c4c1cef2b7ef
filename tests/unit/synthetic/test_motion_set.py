"""The motion set: exact reversal, coding without a trace of time, safe and repeatable writing."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from kinema.data.annotations import read_annotations
from kinema.errors import KinemaError, OptionError, UnknownNameError
from kinema.synthetic import motion_set
from kinema.synthetic.motion import MOTION_CLASSES, REVERSED_PAIRS, MotionRange, draw_track
from kinema.synthetic.motion_set import MotionSettings, render_motion_set, render_video
from kinema.video.decode import open_source

TINY = MotionSettings(
    train_per_class=1, val_per_class=1, size_px=32, min_frames=8, max_frames=10, seed=4
)


@pytest.fixture(scope="module")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_motion_set(tmp_path_factory.mktemp("motion") / "set", settings=TINY, workers=0)


def decoded(path: Path) -> NDArray[np.uint8]:
    with open_source(path) as source:
        frames: NDArray[np.uint8] = source.read(range(source.info.frames)).numpy()
    return frames


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_classes_are_seven_pairs() -> None:
    assert len(REVERSED_PAIRS) == 7
    assert tuple(name for pair in REVERSED_PAIRS for name in pair) == MOTION_CLASSES
    assert len(set(MOTION_CLASSES)) == 14


@pytest.mark.parametrize(("there", "back"), REVERSED_PAIRS)
@pytest.mark.parametrize("seed", [0, 7])
def test_one_class_of_a_pair_is_the_other_played_backwards(
    there: str, back: str, seed: int
) -> None:
    settings = MotionSettings(size_px=32, camera=1.0, speed_range=3.0, scale_range=2.0)
    forward = render_video(there, (seed,), settings)
    backward = render_video(back, (seed,), settings)
    assert np.array_equal(forward[::-1], backward)
    assert not np.array_equal(forward, backward)


@pytest.mark.parametrize("encoder", sorted(motion_set.ENCODERS))
def test_coding_leaves_no_trace_of_the_direction_of_time(encoder: str, tmp_path: Path) -> None:
    frames = render_video("move_right", (1,), MotionSettings(size_px=64, camera=1.0))
    motion_set._encode(tmp_path / "there.mp4", frames, 12, encoder=encoder)
    motion_set._encode(tmp_path / "back.mp4", frames[::-1], 12, encoder=encoder)
    there, back = decoded(tmp_path / "there.mp4"), decoded(tmp_path / "back.mp4")
    assert len(there) == len(frames)
    assert np.array_equal(there[::-1], back)
    error = there.transpose(0, 2, 3, 1).astype(float) - frames
    assert np.abs(error).mean() < 6  # of 255; half of the color resolution is lost


def test_the_same_seed_gives_the_same_video_and_another_seed_another() -> None:
    first, again, other = (render_video("approach", (s, 0), TINY) for s in (3, 3, 4))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_lengths_and_size_follow_the_settings() -> None:
    videos = [render_video("rotate_cw", (s,), TINY) for s in range(12)]
    assert {len(v) for v in videos} == {8, 9, 10}
    assert all(v.shape[1:] == (32, 32, 3) and v.dtype == np.uint8 for v in videos)


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_motions_are_what_their_names_say(speed: float) -> None:
    motion = MotionRange(speed=speed, scale=1.0)
    for seed in range(5):
        track = {
            name: draw_track(name, 32, motion, np.random.default_rng(seed))[0]
            for name, _ in REVERSED_PAIRS
        }
        assert (np.diff(track["move_right"].x) >= 0).all()
        assert np.ptp(track["move_right"].x) > 0.7
        assert (np.diff(track["move_up"].y) <= 0).all()
        assert track["approach"].size[-1] > 1.9 * track["approach"].size[0]
        assert (np.diff(track["rotate_cw"].angle) >= 0).all()
        assert np.ptp(track["rotate_cw"].angle) < 2 * np.pi
        hop = track["flash_then_hop"]
        flashing = np.flatnonzero(hop.glow)
        hopping = np.flatnonzero(hop.y < hop.y.max() - 1e-9)
        assert flashing.max() < hopping.min()
        height = -np.diff(track["climb_and_drop"].y)
        assert (height > 0).sum() > 1.5 * (height < 0).sum()
        away = np.hypot(*(np.diff(c) for c in _place(track["creep_out_dash_back"])))
        assert away.argmax() > np.flatnonzero(away > 1e-9).mean()


def _place(track: object) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return track.x, track.y  # type: ignore[attr-defined]  # any Track


def test_the_pixels_go_where_the_names_say() -> None:
    settings = MotionSettings(size_px=64, camera=0)

    def center(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
        rows, columns = np.nonzero(frame.max(axis=2) > 180)
        return np.array([rows.mean(), columns.mean()])

    for seed in range(5):
        right, up, turn = (
            render_video(name, (seed,), settings) for name in ("move_right", "move_up", "rotate_cw")
        )
        assert center(right[-1])[1] > center(right[0])[1] + 5
        assert center(up[-1])[0] < center(up[0])[0] - 5
        steps = np.diff([center(frame) for frame in turn], axis=0)
        down, across = steps.T
        assert (across[:-1] * down[1:] - down[:-1] * across[1:]).sum() > 0  # clockwise on screen


def test_files_rows_and_classes(tiny_set: Path) -> None:
    assert (tiny_set / "classes.txt").read_text().split() == list(MOTION_CLASSES)
    for split in ("train", "val"):
        read = read_annotations(tiny_set / f"{split}.csv", classes=tiny_set / "classes.txt")
        assert read.class_names == MOTION_CLASSES
        assert len(read.samples) == len(MOTION_CLASSES)
        with (tiny_set / f"{split}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["path", "label", "seed"]
        assert [row["label"] for row in rows] == list(MOTION_CLASSES)
        assert all((tiny_set / "videos" / row["path"]).is_file() for row in rows)
        seed = tuple(int(n) for n in rows[0]["seed"].split("-"))
        frames = render_video(rows[0]["label"], seed, TINY)
        assert len(decoded(tiny_set / "videos" / rows[0]["path"])) == len(frames)
    assert not list(tiny_set.rglob("*.part"))


def test_every_frame_is_a_key_frame(tiny_set: Path) -> None:
    with av.open(str(tiny_set / "videos" / "move_up" / "val_0000.mp4")) as container:
        keys = [p.is_keyframe for p in container.demux(video=0) if p.size]
    assert keys
    assert all(keys)


def test_the_complete_set_is_left_as_it_is(tiny_set: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in tiny_set.rglob("*")}
    calls: list[int] = []
    render_motion_set(tiny_set, settings=TINY, workers=0, progress=lambda d, _: calls.append(d))
    assert {p: p.stat().st_mtime_ns for p in tiny_set.rglob("*")} == before
    assert not calls


def test_an_interrupted_render_is_completed(tiny_set: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise InterruptedError

    out = tmp_path / "set"
    with pytest.raises(InterruptedError):
        render_motion_set(out, settings=TINY, workers=0, progress=stop)
    assert not json.loads((out / "settings.json").read_text())["complete"]
    (out / "videos" / "recede" / "train_0000.part").write_bytes(b"half a video")
    progress: list[tuple[int, int]] = []
    render_motion_set(out, settings=TINY, workers=0, progress=lambda *a: progress.append(a))
    assert progress[-1] == (28, 28)
    assert contents(out) == contents(tiny_set)


def test_a_lost_video_is_rendered_again(tmp_path: Path, tiny_set: Path) -> None:
    out = render_motion_set(tmp_path / "set", settings=TINY, workers=0)
    (out / "videos" / "recede" / "val_0000.mp4").unlink()
    render_motion_set(out, settings=TINY, workers=0)
    assert contents(out) == contents(tiny_set)


@pytest.mark.slow
def test_files_do_not_depend_on_the_number_of_workers(tmp_path: Path, tiny_set: Path) -> None:
    out = render_motion_set(tmp_path / "set", settings=TINY, workers=2)
    assert contents(out) == contents(tiny_set)


def test_foreign_folders_are_never_written_to(tmp_path: Path, tiny_set: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"")
    with pytest.raises(KinemaError, match=r"new or empty folder or hold a motion set"):
        render_motion_set(tmp_path, settings=TINY, workers=0)
    with pytest.raises(KinemaError, match=r"holiday\.mp4 must be a new or empty folder"):
        render_motion_set(tmp_path / "holiday.mp4", settings=TINY, workers=0)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.mp4"]
    other = MotionSettings(train_per_class=2, size_px=32, seed=4)
    with pytest.raises(KinemaError, match=r"other settings \(max_frames, min_frames, .*train_per"):
        render_motion_set(tiny_set, settings=other, workers=0)


@pytest.mark.parametrize("text", ["{not json", "[1, 2]"])
def test_a_foreign_settings_file_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(KinemaError, match=r"settings\.json is not a settings file of a motion set"):
        render_motion_set(tmp_path, settings=TINY, workers=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_per_class": 0}, "at least 1"),
        ({"size_px": 33}, "size_px must be even and at least 32, got 33"),
        ({"min_frames": 20, "max_frames": 10}, "ascending, got 20 to 10"),
        ({"rate_hz": 0}, "rate_hz must be at least 1"),
        ({"camera": 1.5}, "camera must be between 0 and 1, got 1.5"),
        ({"speed_range": 0.5}, "speed_range must be between 1 and 4, got 0.5"),
        ({"scale_range": float("nan")}, "scale_range must be between 1 and 2, got nan"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_settings_outside_their_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        MotionSettings(**settings)  # type: ignore[arg-type]  # ints and floats mixed


def test_negative_workers(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="workers must be at least 0, got -2"):
        render_motion_set(tmp_path, settings=TINY, workers=-2)


def test_a_misspelled_class_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="'rotate_cv'. Did you mean 'rotate_cw'"):
        render_video("rotate_cv", (0,), TINY)


def test_rendering_needs_no_torch() -> None:
    code = "import sys, kinema.synthetic.motion_set; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
