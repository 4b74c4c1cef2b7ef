"""Decoding of an archive in a sandbox: no video ends or holds up the caller."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from kinema.archive.decode_stage import DecodeStage
from kinema.archive.settings import LabelSettings, Work
from kinema.data.sampling import sampling_of
from kinema.data.transforms import ViewTransform
from kinema.errors import ClusterError, UnreadableVideoError
from kinema.values import Preprocessing, Views
from kinema.video.decode import open_source

from ...decoder_faults import with_faults

HOW = Preprocessing(frames=4, short_side_px=40, crop_px=32)
VIEWS = Views(clips=2, crops=3)


def work_of(root: Path, **settings: int) -> Work:
    wanted = LabelSettings(clips=2, crops=3, **settings)
    return Work("", str(root), HOW, wanted, "cpu", threads=1, plugins=())


@pytest.fixture(scope="module")
def decoder(tmp_path_factory, color_set) -> Iterator[DecodeStage]:
    folder = with_faults(tmp_path_factory.mktemp("faults"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        decoder = DecodeStage(work_of(color_set, decode_s=2, decode_mb=600))
    with decoder:
        yield decoder


def read(decoder: DecodeStage, path: Path | str) -> np.ndarray:
    return np.concatenate(decoder.read(str(path))).reshape(6, 4, 3, 32, 32)


def expected(video: Path) -> np.ndarray:
    transform = ViewTransform(HOW, VIEWS)
    with open_source(video) as source:
        clips = sampling_of(HOW).test(source.info.frames, VIEWS.clips)
        return np.concatenate([transform(source.read(clip)).numpy() for clip in clips])


@pytest.mark.slow
def test_views_are_those_of_this_process(decoder, color_set):
    for name in ("red/0.mp4", "blue/1.mp4"):
        np.testing.assert_array_equal(read(decoder, name), expected(color_set / name), strict=True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crash", "in 2 attempts: The decoder was ended by SIGSEGV"),
        ("bug", r": The decoder raised ZeroDivisionError: bug\."),
        ("hungry", ": Decoding needs more than 600 MiB of memory"),
        pytest.param("hang", "in 2 attempts: Decoding takes more than 2 s", marks=pytest.mark.slow),
    ],
)
def test_a_video_that_ends_its_decoder_costs_itself(decoder, color_set, tmp_path, name, reason):
    bad = tmp_path / f"{name}.mp4"
    bad.write_bytes((color_set / "red" / "0.mp4").read_bytes())
    with pytest.raises(UnreadableVideoError, match=f"{name}.mp4 cannot be read.*{reason}"):
        decoder.read(str(bad))
    good = color_set / "green" / "0.mp4"
    np.testing.assert_array_equal(read(decoder, good), expected(good))


def test_broken_files_have_their_reason(decoder, color_set, tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(UnreadableVideoError, match=r"empty.mp4 is empty \(0 bytes\)"):
        decoder.read(str(tmp_path / "empty.mp4"))
    (tmp_path / "cut.mp4").write_bytes((color_set / "red" / "0.mp4").read_bytes()[:300])
    with pytest.raises(UnreadableVideoError, match="cut.mp4"):
        decoder.read(str(tmp_path / "cut.mp4"))


@pytest.mark.slow
def test_a_killed_process_is_replaced(color_set):
    good = color_set / "green" / "0.mp4"
    with DecodeStage(work_of(color_set)) as decoder:
        decoder.read(str(good))
        parent = decoder._parent._process.pid
        (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        os.kill(parent, signal.SIGKILL)
        os.kill(int(child), signal.SIGKILL)
        np.testing.assert_array_equal(read(decoder, good), expected(good))


@pytest.mark.slow
def test_a_process_that_cannot_start_is_no_fault_of_a_video(color_set, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with DecodeStage(work_of(color_set)) as decoder:
        with pytest.raises(ClusterError, match="No decoder can be started .* exit code 3"):
            decoder.read("red/0.mp4")
        monkeypatch.undo()
        assert decoder.read("red/0.mp4"), "the next attempt finds a free place"


@pytest.mark.slow
def test_a_decoder_that_hangs_ends_with_its_parent(decoder, color_set):
    decoder.read("red/0.mp4")
    parent = decoder._parent._process.pid
    (child,) = psutil.Process(parent).children()
    child.suspend()
    os.kill(parent, signal.SIGKILL)
    until = time.monotonic() + 20
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, "it hangs still"
        time.sleep(0.02)
    good = color_set / "green" / "0.mp4"
    np.testing.assert_array_equal(read(decoder, good), expected(good))


def test_the_caller_needs_no_pytorch():
    code = "import sys, kinema.archive.decode_stage; print({'torch', 'av'} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "set()\n"
