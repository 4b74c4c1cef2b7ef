"""Decoding in a process that may die."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kinema.data.sampling import sampling_of
from kinema.data.transforms import ViewTransform
from kinema.decoders.isolated import DecodeOrder, IsolatedDecoder
from kinema.errors import ClusterError, OptionError, UnreadableVideoError
from kinema.values import Preprocessing, Views
from kinema.video.decode import open_source

from ...decoder_faults import with_faults

HOW = Preprocessing(frames=4, short_side_px=40, crop_px=32)
VIEWS = Views(clips=2, crops=3)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory) -> Iterator[IsolatedDecoder]:
    folder = with_faults(tmp_path_factory.mktemp("faults"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        decoder = IsolatedDecoder(DecodeOrder(HOW, 2, 3, seconds=2, memory_mb=600))
    with decoder:
        yield decoder


def expected(video: Path) -> np.ndarray:
    transform = ViewTransform(HOW, VIEWS)
    with open_source(video) as source:
        clips = sampling_of(HOW).test(source.info.frames, VIEWS.clips)
        return np.concatenate([transform(source.read(clip)).numpy() for clip in clips])


def test_views_are_those_of_this_process(decoder, color_set):
    for name in ("red/0.mp4", "blue/1.mp4"):
        np.testing.assert_array_equal(
            decoder.read(color_set / name), expected(color_set / name), strict=True
        )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crash", "the decoder was ended by SIGSEGV, 2 times"),
        ("hungry", "MemoryError"),
        pytest.param("hang", "decoding took more than 2 s, 2 times", marks=pytest.mark.slow),
    ],
)
def test_a_video_that_ends_its_decoder_costs_itself(decoder, color_set, tmp_path, name, reason):
    bad = tmp_path / f"{name}.mp4"
    bad.write_bytes((color_set / "red" / "0.mp4").read_bytes())
    with pytest.raises(UnreadableVideoError, match=f"{name}.mp4 cannot be read: {reason}"):
        decoder.read(bad)
    good = color_set / "green" / "0.mp4"
    np.testing.assert_array_equal(decoder.read(good), expected(good))


def test_broken_files_have_their_reason(decoder, color_set, tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(UnreadableVideoError, match=r"empty.mp4 is empty \(0 bytes\)"):
        decoder.read(tmp_path / "empty.mp4")
    (tmp_path / "cut.mp4").write_bytes((color_set / "red" / "0.mp4").read_bytes()[:300])
    with pytest.raises(UnreadableVideoError, match="cut.mp4"):
        decoder.read(tmp_path / "cut.mp4")


@pytest.mark.slow
def test_a_killed_process_is_replaced(color_set):
    good = color_set / "green" / "0.mp4"
    with IsolatedDecoder(DecodeOrder(HOW, 2, 3)) as decoder:
        decoder.read(good)
        parent = decoder._process.pid
        (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        os.kill(parent, signal.SIGKILL)
        os.kill(int(child), signal.SIGKILL)
        np.testing.assert_array_equal(decoder.read(good), expected(good))


def test_a_process_that_cannot_start_is_no_fault_of_a_video(color_set, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with IsolatedDecoder(DecodeOrder(HOW, 2, 3)) as decoder:
        with pytest.raises(ClusterError, match="No decoder can be started .* exit code 3"):
            decoder.read(color_set / "red" / "0.mp4")
        monkeypatch.delenv("PYTHONPATH")


def test_wrong_orders():
    with pytest.raises(OptionError, match="at least 1 second and 1 MB, got 0 s"):
        DecodeOrder(HOW, 1, 1, seconds=0)
    with pytest.raises(OptionError, match="crops must be 1, 3 or 10, got 2"):
        DecodeOrder(HOW, 1, 2)


def test_the_caller_needs_no_pytorch():
    code = "import sys, kinema.decoders.isolated; print({'torch', 'av'} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "set()\n"
