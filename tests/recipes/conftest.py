"""Made-up videos for the recipes, also at the places and in the formats that the papers' name."""

import csv
import json
import shutil
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from kinema.data.classes import read_class_names
from kinema.synthetic.motion_set import MotionSettings, render_motion_set

TRAIN, VAL = 4, 1
CODECS = {".mp4": "mpeg4", ".avi": "mpeg4", ".webm": "libvpx"}


@pytest.fixture(scope="session")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides with which a recipe trains two steps on made-up videos of motions."""
    settings = MotionSettings(train_per_class=1, val_per_class=1, size_px=32, max_frames=24)
    motion = render_motion_set(tmp_path_factory.mktemp("motion"), settings=settings, workers=0)
    return [
        "data.format=csv",
        f"data.train={motion / 'train.csv'}",
        f"data.val={motion / 'val.csv'}",
        f"data.root={motion / 'videos'}",
        f"data.classes={motion / 'classes.txt'}",
        "data.workers=0",
        "model.weights=none",
        "preprocessing.short_side_px=40",
        "preprocessing.crop_px=32",
        "schedule.warmup_epochs=0",
        "train.epochs=1",
        "train.batch_size=7",
        "train.log_every_steps=1",
    ]


def encode(path: Path) -> Path:
    """Ten frames of 48 x 36 pixels with noise."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(CODECS[path.suffix], rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 36, "yuv420p"
        for _ in range(10):
            picture = rng.integers(0, 255, (36, 48, 3), dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def paper_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which the recipes of the papers find their data sets: run them there."""
    root = tmp_path_factory.mktemp("paper_sets")
    video = {suffix: encode(root / f"video{suffix}") for suffix in CODECS}

    def put(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video[path.suffix], path)

    for write in (kinetics, something_v1, something_v2, ucf101, hmdb51, diving48):
        write(root, put)
    return root


def parts(names: tuple[str, str]) -> list[tuple[str, range]]:
    """The two annotation files with the numbers of their videos."""
    return list(zip(names, (range(TRAIN), range(TRAIN, TRAIN + VAL)), strict=True))


def kinetics(root, put):
    names = read_class_names("kinetics400")
    for part, numbers in parts(("train", "val")):
        (root / "kinetics400").mkdir(exist_ok=True)
        with (root / f"kinetics400/{part}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
            for number in numbers:
                writer.writerow([names[number], f"id{number}", 3, 13, part])
                put(root / f"kinetics400/{part}/{names[number]}/id{number}_000003_000013.mp4")


def something_v1(root, put):
    names = read_class_names("something_v1")
    for part, numbers in parts(("train", "validation")):
        lines = []
        for number in numbers:
            folder = root / f"something-v1/20bn-something-something-v1/{number}"
            folder.mkdir(parents=True)
            for frame in range(1, 11):
                Image.new("RGB", (48, 36), (20 * frame,) * 3).save(folder / f"{frame:05d}.jpg")
            lines.append(f"{number};{names[number]}\n")
        list_file = root / f"something-v1/something-something-v1-{part}.csv"
        list_file.write_text("".join(lines), encoding="utf-8")


def something_v2(root, put):
    names = read_class_names("something_v2")
    for part, numbers in parts(("train", "validation")):
        rows = [{"id": str(n), "template": names[n], "placeholders": []} for n in numbers]
        for number in numbers:
            put(root / f"something-v2/20bn-something-something-v2/{number}.webm")
        list_file = root / f"something-v2/something-something-v2-{part}.json"
        list_file.write_text(json.dumps(rows), encoding="utf-8")


def ucf101(root, put):
    names = read_class_names("ucf101")
    for (part, numbers), split in product(parts(("train", "test")), (1, 2, 3)):
        paths = [f"{names[n]}/v_{names[n]}_g01_c{n:02d}.avi" for n in numbers]
        for path in paths:
            put(root / "ucf101/UCF-101" / path)
        list_file = root / f"ucf101/ucfTrainTestlist/{part}list{split:02d}.txt"
        list_file.parent.mkdir(parents=True, exist_ok=True)
        labels = [f" {n + 1}" if part == "train" else "" for n in numbers]
        lines = [f"{path}{label}\r\n" for path, label in zip(paths, labels, strict=True)]
        list_file.write_text("".join(lines), encoding="utf-8", newline="")


def hmdb51(root, put):
    folder = root / "hmdb51/testTrainMulti_7030_splits"
    folder.mkdir(parents=True)
    for name, split in product(read_class_names("hmdb51"), (1, 2, 3)):
        marks = [1] * (TRAIN // 4) + [2] if name < "clap" else [0]
        lines = [f"{name}_{n}.avi {mark} \n" for n, mark in enumerate(marks)]
        (folder / f"{name}_test_split{split}.txt").write_text("".join(lines), encoding="utf-8")
        for number in range(len(marks)):
            put(root / f"hmdb51/videos/{name}/{name}_{number}.avi")


def diving48(root, put):
    for part, numbers in parts(("train", "test")):
        rows = [
            {"vid_name": f"v{n}", "label": n, "start_frame": 0, "end_frame": 9} for n in numbers
        ]
        for number in numbers:
            put(root / f"diving48/rgb/v{number}.mp4")
        (root / f"diving48/Diving48_V2_{part}.json").write_text(json.dumps(rows), encoding="utf-8")
