"""Copies that decode fast: the same frames, labels and paths, whatever happens on the way."""

import errno
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from kinema.data import prepare
from kinema.data.annotations import read_annotations
from kinema.data.dataset import VideoDataset
from kinema.data.prepare import PrepareSettings, prepare_dataset
from kinema.errors import KinemaError, OptionError
from kinema.values import Annotations, Sample
from kinema.video.decode import VideoFile, open_source

SMALL = PrepareSettings(short_side_px=32)
KINDS = {
    "h264.mp4": {},
    "h264.ts": {},
    "mpeg4_b.avi": {"codec": "mpeg4"},
    "vp9.webm": {"codec": "libvpx-vp9", "bframes": 0},
    "variable_rate.mkv": {"pts": [n * n // 4 + n for n in range(30)]},
    "picture.gif": {"codec": "gif", "pix_fmt": "gray", "bframes": 0},
    "upright.mp4": {"size": (96, 128)},
    "tiny.mp4": {"size": (32, 24)},
    "odd.mp4": {"size": (131, 99), "pix_fmt": "yuv444p"},
}


def rows_of(root, *paths: str) -> VideoDataset:
    samples = tuple(Sample(path, number % 2) for number, path in enumerate(paths))
    return VideoDataset(Annotations(samples, ("b", "a"), str(root / "train.csv")), root)


@pytest.fixture
def dataset(make_video, tmp_path) -> VideoDataset:
    paths = [f"videos/{name}/{number}.mp4" for name in "ba" for number in range(2)]
    for path in paths:
        make_video(path, size=(64, 48), frames=14)
    names = [path.removeprefix("videos/") for path in paths]
    return rows_of(tmp_path / "videos", *names)


def shown(path, read_number) -> list[int]:
    with open_source(path) as source:
        numbers = range(source.info.frames)
        return [
            read_number(picture) for picture in source.read(numbers).permute(0, 2, 3, 1).numpy()
        ]


@pytest.mark.parametrize("name", KINDS)
def test_frame_k_of_a_copy_is_frame_k(make_video, tmp_path, name, read_number):
    original = make_video(name, **{"size": (128, 96), **KINDS[name]})
    report = prepare_dataset(rows_of(tmp_path, name), tmp_path / "out", settings=SMALL, workers=0)
    copy = tmp_path / "out" / name
    assert (report.videos, report.ok, report.bad) == (1, 1, ())
    assert report.bytes_before == original.stat().st_size
    assert report.bytes_after == copy.stat().st_size
    assert shown(copy, read_number) == shown(original, read_number) == list(range(30))
    with VideoFile(original) as before, VideoFile(copy) as after:
        assert min(after.info.width, after.info.height) == min(
            32, 2 * round(min(before.info.width, before.info.height) / 2)
        )
        assert after.times_s([0, 3, 29]) == pytest.approx(before.times_s([0, 3, 29]), abs=1e-3)
        assert after.info.codec == "h264"
        assert len(after._indexed.index.keyframes) >= 3


def test_colors_stay(make_video, tmp_path):
    make_video("a.mp4", size=(128, 96), frames=3)
    prepare_dataset(rows_of(tmp_path, "a.mp4"), tmp_path / "out", settings=SMALL, workers=0)
    with VideoFile(tmp_path / "a.mp4") as before, VideoFile(tmp_path / "out" / "a.mp4") as after:
        difference = before.read([1]).float().mean((2, 3)) - after.read([1]).float().mean((2, 3))
    assert difference.abs().max() < 2


def test_a_frame_folder_becomes_a_video(tmp_path, read_number):
    folder = tmp_path / "frames" / "clip"
    folder.mkdir(parents=True)
    for number in range(1, 6):
        Image.fromarray(np.full((48, 64, 3), 40 * number, np.uint8)).save(
            folder / f"img_{number:05d}.png"
        )
    report = prepare_dataset(
        rows_of(tmp_path / "frames", "clip"), tmp_path / "out", settings=SMALL, workers=0
    )
    assert report.ok == 1
    assert (tmp_path / "out" / "clip").is_file()
    with open_source(tmp_path / "out" / "clip") as source:
        levels = source.read(range(5)).float().mean(dim=(1, 2, 3))
    assert levels.tolist() == pytest.approx([40, 80, 120, 160, 200], abs=3)
    found = read_annotations(tmp_path / "out" / "train.csv")
    assert [sample.path for sample in found.samples] == ["clip"]


def test_copies_of_class_folders_are_class_folders(tmp_path, make_video):
    make_video("set/run/a.mp4", frames=4)
    frames = tmp_path / "set" / "jump" / "b"
    frames.mkdir(parents=True)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(frames / "1.png")
    originals = read_annotations(tmp_path / "set", format="folders")
    prepare_dataset(VideoDataset(originals, tmp_path / "set"), tmp_path / "out", workers=0)
    assert read_annotations(tmp_path / "out", format="folders").samples == originals.samples


def test_the_rows_fit_with_only_the_root_replaced(dataset, tmp_path):
    out = tmp_path / "out"
    report = prepare_dataset(dataset, out, settings=SMALL, workers=0)
    assert report.ok == 4
    rows = read_annotations(out / "train.csv", classes=out / "train.classes.txt")
    assert rows.samples == dataset.annotations.samples
    assert rows.class_names == ("b", "a")
    assert all((out / sample.path).is_file() for sample in dataset.annotations.samples)


def test_bad_videos_are_reported_and_stop_nothing(dataset, tmp_path):
    (dataset.root / "b" / "1.mp4").write_bytes(b"")
    (dataset.root / "a" / "0.mp4").unlink()
    out = tmp_path / "out"
    report = prepare_dataset(dataset, out, settings=SMALL, workers=0)
    assert (report.videos, report.ok) == (4, 2)
    assert [bad.path for bad in report.bad] == ["b/1.mp4", "a/0.mp4"]
    assert "is empty" in report.bad[0].reason
    assert "does not exist" in report.bad[1].reason
    rows = read_annotations(out / "train.csv", classes=out / "train.classes.txt")
    assert [sample.path for sample in rows.samples] == ["b/0.mp4", "a/1.mp4"]
    assert sorted(p.name for p in out.rglob("*.mp4")) == ["0.mp4", "1.mp4"]


def test_a_path_that_leaves_the_folder_is_bad(dataset, tmp_path):
    absolute = str(dataset.root / "b" / "0.mp4")
    before = (dataset.root / "b" / "0.mp4").read_bytes()
    wrong = rows_of(dataset.root, absolute, "../videos/b/0.mp4", "b/1.mp4")
    report = prepare_dataset(wrong, tmp_path / "out", settings=SMALL, workers=0)
    assert report.ok == 1
    assert all("leads out of the root folder" in bad.reason for bad in report.bad)
    assert (dataset.root / "b" / "0.mp4").read_bytes() == before


def state(out) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(out)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in out.rglob("*.mp4")
    }


def test_an_interrupted_run_is_continued(dataset, tmp_path, monkeypatch):
    out = tmp_path / "out"
    encode, calls = prepare._encode, []

    def stopped(source, path, settings):
        encode(source, path, settings)
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "_encode", stopped)
        with pytest.raises(KeyboardInterrupt):
            prepare_dataset(dataset, out, settings=SMALL, workers=0)
    first = state(out)
    assert sorted(first) == ["b/0.mp4", "b/1.mp4"]
    (out / "a" / ".0.mp4.part").write_bytes(b"what a kill leaves behind")
    assert prepare_dataset(dataset, out, settings=SMALL, workers=0).ok == 4
    second = state(out)
    assert len(second) == 4
    assert second.items() > first.items()
    assert not list(out.rglob("*.part"))
    prepare_dataset(dataset, out, settings=SMALL, workers=0)
    assert state(out) == second


def test_a_copy_of_a_changed_original_is_made_anew(dataset, tmp_path, make_video, read_number):
    out = tmp_path / "out"
    prepare_dataset(dataset, out, settings=SMALL, workers=0)
    make_video("videos/b/0.mp4", size=(64, 48), frames=9)
    os.utime(dataset.root / "b" / "0.mp4", (1e9, 1e9))
    prepare_dataset(dataset, out, settings=SMALL, workers=0)
    assert shown(out / "b" / "0.mp4", read_number) == list(range(9))


@pytest.mark.slow
def test_processes_change_nothing(dataset, tmp_path):
    here = prepare_dataset(dataset, tmp_path / "here", settings=SMALL, workers=0)
    done = []
    there = prepare_dataset(
        dataset,
        tmp_path / "there",
        settings=SMALL,
        workers=2,
        progress=lambda *now: done.append(now),
    )
    assert there == here
    assert done[-1] == (4, 4)
    for sample in dataset.annotations.samples:
        copies = [(tmp_path / name / sample.path).read_bytes() for name in ("here", "there")]
        assert copies[0] == copies[1]


def test_a_full_disk_stops_with_what_is_done(dataset, tmp_path, monkeypatch):
    def full(source, path, settings):
        path.write_bytes(b"half a copy")
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out"
    monkeypatch.setattr(prepare, "_encode", full)
    with pytest.raises(
        KinemaError, match="disk of .*out is full .* run the command again to continue"
    ):
        prepare_dataset(dataset, out, settings=SMALL, workers=0)
    assert not list(out.rglob("*.mp4*"))


def test_folders_that_hold_something_else_are_left_alone(dataset, tmp_path):
    with pytest.raises(OptionError, match="must not be the folder of the originals"):
        prepare_dataset(dataset, dataset.root, settings=SMALL, workers=0)
    with pytest.raises(KinemaError, match="must be a new or empty folder"):
        prepare_dataset(dataset, tmp_path, settings=SMALL, workers=0)
    out = tmp_path / "out"
    prepare_dataset(dataset, out, settings=SMALL, workers=0)
    with pytest.raises(KinemaError, match=r"other settings \(short_side_px\)"):
        prepare_dataset(dataset, out, settings=PrepareSettings(short_side_px=48), workers=0)
    other = rows_of(tmp_path / "other")
    with pytest.raises(KinemaError, match="holds copies of the videos in .*; those in .*other may"):
        prepare_dataset(other, out, settings=SMALL, workers=0)
    (out / "prepare.json").write_text("no settings")
    with pytest.raises(KinemaError, match="prepare.json is not a settings file of copies"):
        prepare_dataset(dataset, out, settings=SMALL, workers=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"short_side_px": 33}, "must be even and at least 32, got 33"),
        ({"short_side_px": 16}, "at least 32, got 16"),
        ({"group_frames": 0}, "group_frames must be at least 1"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(OptionError, match=message):
        PrepareSettings(**wrong)


def test_workers_cannot_be_negative(dataset, tmp_path):
    with pytest.raises(OptionError, match="workers must be at least 0, got -1"):
        prepare_dataset(dataset, tmp_path / "out", workers=-1)


def test_the_longest_names_and_accents_in_either_form(make_video, tmp_path):
    name = "\u00e9" * 125 + ".mp4"
    make_video(f"videos/{name}", size=(64, 48), frames=4)
    composed_or_not = unicodedata.normalize("NFD", "caf\u00e9.mp4")
    make_video("videos/caf\u00e9.mp4", size=(64, 48), frames=5)
    rows = rows_of(tmp_path / "videos", name, composed_or_not)
    named = Annotations(rows.annotations.samples, ("b", "a"), "x" * 251 + ".csv")
    out = tmp_path / "out"
    report = prepare_dataset(VideoDataset(named, rows.root), out, settings=SMALL, workers=0)
    assert (report.ok, report.bad) == (2, ())
    written = ["x" * 251 + ".csv", "x" * 243 + ".classes.txt"]
    assert {file.name for file in out.iterdir()} == {
        *(name, composed_or_not, "prepare.json"),
        *written,
    }
    found = read_annotations(out / written[0], classes=out / written[1])
    assert found.samples == named.samples
