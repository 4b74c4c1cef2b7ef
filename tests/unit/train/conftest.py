"""A handful of tiny real videos and a recipe that trains on them in a moment."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

VIDEOS_PER_CLASS = 4


def write_video(path: Path, *, red: bool, seed: int) -> None:
    """Eight frames of 48 x 40 pixels, mostly red or mostly blue, with noise."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
        stream.time_base = Fraction(1, 8)
        for number in range(8):
            picture = rng.integers(0, 60, (40, 48, 3), dtype=np.uint8)
            picture[..., 0 if red else 2] += 150
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with videos, train.csv and val.csv of two classes."""
    folder = tmp_path_factory.mktemp("tiny_set")
    for name, first_seed in (("train", 0), ("val", 100)):
        rows = ["path,label"]
        for label in ("blue", "red"):
            for number in range(VIDEOS_PER_CLASS):
                video = folder / f"{name}_{label}_{number}.mp4"
                write_video(video, red=label == "red", seed=first_seed + number)
                rows.append(f"{video.name},{label}")
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def settings(tiny_set: Path) -> dict[str, dict[str, Any]]:
    """Recipe tables: 2 epochs of 4 steps of 2 clips with a tiny network."""
    return {
        "model": {"backbone": "resnet10t", "temporal": "tim", "frames": 2, "stages": [5]},
        "data": {
            "train": str(tiny_set / "train.csv"),
            "val": str(tiny_set / "val.csv"),
            "root": str(tiny_set),
            "workers": 0,
        },
        "preprocessing": {"short_side_px": 36, "crop_px": 32},
        "optimizer": {"name": "sgd", "lr": 0.02},
        "schedule": {"name": "cosine", "warmup_epochs": 0.5},
        "train": {"epochs": 2, "batch_size": 2, "log_every_steps": 2},
    }
