"""Fixtures shared by all tests."""

import os
import signal
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from .causal import LABELS, save_causal

REPOSITORY = Path(__file__).resolve().parent.parent


# Ray's processes otherwise give way to all others, and tests that run beside starve them.
os.environ.setdefault("RAY_worker_niceness", "0")


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _heard_signals() -> None:
    # Programs that a script starts in the background ignore Ctrl-C, and so would all they start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with clips/, annotations/, sets/ and weights/; tests that need it carry `data`."""
    folder = Path(os.environ.get("KINEMA_DATA", REPOSITORY.parent / "shared" / "data"))
    # The recordings are not ours to publish, so a plain checkout has none. Made-up videos test the
    # same code there; only what real encoders and cameras do differently remains untested.
    if not (folder / "clips").is_dir():
        pytest.skip(f"no real data at {folder}: set KINEMA_DATA to the data folder")
    return folder


@pytest.fixture(scope="session")
def color_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real videos of three classes (red, green, blue; two each) and val.csv."""
    folder = tmp_path_factory.mktemp("colors")
    rows = ["path,label"]
    for channel, name in enumerate(LABELS):
        for number in range(2):
            video = folder / name / f"{number}.mp4"
            video.parent.mkdir(exist_ok=True)
            _write_video(video, channel, seed=10 * channel + number)
            rows.append(f"{name}/{number}.mp4,{name}")
    (folder / "val.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved network with random weights that takes clips of the color set."""
    return save_causal(tmp_path_factory.mktemp("checkpoint") / "colors", causal=False)


def _write_video(path: Path, channel: int, *, seed: int) -> None:
    """Twelve frames of 64 x 48 pixels with noise, bright in one channel."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(12):
            picture = rng.integers(0, 60, (48, 64, 3), dtype=np.uint8)
            picture[..., channel] += 150
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
