"""A disk that is full or read-only: the error names the file, and what was there stays."""

import asyncio
import dataclasses
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import kinema
from kinema.archive.arrow import pa
from kinema.archive.output import open_output, row_schema
from kinema.bench.result import write_measurement
from kinema.data.annotations import read_annotations
from kinema.data.dataset import VideoDataset
from kinema.data.prepare import PrepareSettings, prepare_dataset
from kinema.errors import KinemaError, OutputError
from kinema.evaluation.evaluate import report_scores, save_scores
from kinema.live.overlay import CaptionedVideo
from kinema.models.published.catalog import find_published
from kinema.models.published.fetch import fetch
from kinema.models.saved import load_saved
from kinema.models.zoo import create_model
from kinema.serve.uploads import UploadFolder
from kinema.train.checkpoint import Position, TrainState, load_state, save_state
from kinema.train.optim import build_optimizer, build_schedule
from kinema.train.settings import AdamWSettings, CosineSettings
from kinema.values import Preprocessing, Views
from kinema.video.decode import VideoFile
from kinema.video.index_cache import IndexCache

from ..file_server import FileServer
from ..small_recipe import DATA_AND_OPTIMIZER

LABELS = ("a", "b", "c")
TROUBLES = ("full", "read_only")
REASONS = r"(no space left on device|file too large|read-only file system|permission denied)"


def network():
    return create_model("tsm_test_resnet", classes=3, frames=4)


def learner() -> TrainState:
    net = network()
    optimizer = build_optimizer(net, AdamWSettings(), batch_size=2)
    return TrainState(
        net,
        optimizer,
        build_schedule(optimizer, CosineSettings(), epochs=1, steps_per_epoch=1, lr=1),
    )


def write_state(folder: Path) -> Path:
    save_state(folder / "state.pt", learner(), Position(steps=7))
    return folder / "state.pt"


def write_network(folder: Path) -> Path:
    how = Preprocessing(frames=4, short_side_px=40, crop_px=32)
    kinema.save(network(), folder / "net", labels=LABELS, preprocessing=how, overwrite=True)
    return folder / "net"


def write_result(folder: Path) -> Path:
    write_measurement({"rows": [{"x": "y" * 100}] * 1000}, folder / "result.json")
    return folder / "result.json"


def write_scores(folder: Path) -> Path:
    scores = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    report = report_scores(
        scores=scores,
        labels=np.zeros(len(scores), np.int64),
        paths=tuple(map(str, range(len(scores)))),
        class_names=LABELS,
        views=Views(),
    )
    return save_scores(report, folder / "scores.npz")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "filler"
    }


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("write", [write_state, write_network, write_result])
def test_what_was_written_before_stays(disk, write: Callable[[Path], Path], trouble):
    path = write(disk.folder)
    before = contents(disk.folder)
    with getattr(disk, trouble)():
        with pytest.raises(OutputError, match=f"{path} cannot be written: {REASONS}.*try again"):
            write(disk.folder)
        assert contents(disk.folder) == before  # and nothing half-written
    write(disk.folder)


def test_the_state_and_the_network_can_be_read_after_the_trouble(disk):
    state, saved = write_state(disk.folder), write_network(disk.folder)
    with disk.full():
        for write in (write_state, write_network):
            with pytest.raises(OutputError):
                write(disk.folder)
        assert load_state(state, learner()).steps == 7
        assert load_saved(saved).labels == LABELS


@pytest.mark.parametrize("trouble", TROUBLES)
def test_scores_appear_whole_or_not_at_all(disk, trouble):
    with getattr(disk, trouble)():
        with pytest.raises(OutputError, match=f"scores.npz cannot be written: {REASONS}"):
            write_scores(disk.folder)
        assert not contents(disk.folder)
    assert write_scores(disk.folder).is_file()


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize(
    "suffix",
    [
        ".pt2",
        *(pytest.param(s, marks=pytest.mark.slow) for s in (".onnx", ".xml", ".aoti.pt2")),
    ],
)
def test_an_export_appears_whole_or_not_at_all(disk, suffix, trouble):
    net, file = network().eval(), disk.folder / f"net{suffix}"
    with getattr(disk, trouble)():
        with pytest.raises(OutputError, match=f"{file} cannot be written: {REASONS}.*try again"):
            kinema.export(net, file, size=32)
        assert not contents(disk.folder)
    assert kinema.export(net, file, size=32).path == file


@pytest.mark.parametrize("trouble", TROUBLES)
def test_labels_appear_whole_or_not_at_all(disk, trouble):
    out = disk.folder / "labels"
    message = f"{out}.* cannot be written: {REASONS}.*try again"
    with (
        disk.full(left=0) if trouble == "full" else disk.read_only(),
        pytest.raises(OutputError, match=message),
        open_output(out, {"format": 1}) as output,
    ):
        output.write("labels-0", row_schema(features=False).empty_table())
    with open_output(out, {"format": 1}) as output:
        assert output.done().num_rows == 0


def test_labels_that_do_not_fit_are_named_and_the_others_stay(disk):
    rows = pa.table({"path": [f"{n:064x}.mp4" for n in range(20_000)], "error": ["x"] * 20_000})
    with open_output(disk.folder / "labels", {"format": 1}) as output:
        output.write("first", rows)
        message = f"{output.folder}/second.parquet cannot be written: {REASONS}.*try again"
        with disk.full(), pytest.raises(OutputError, match=message):
            output.write("second", rows)
        assert output.done().num_rows == 20_000
    assert [file.name for file in output.folder.glob("*.parquet")] == ["first.parquet"]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_captioned_video_names_its_file(disk, trouble):
    picture, file = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8), "out.mp4"
    message = f"{file} cannot be written: {REASONS}.*try again"

    def write() -> None:
        with CaptionedVideo(disk.folder / file) as video:
            for number in range(30):
                video.add(picture, "", time_s=number)

    with getattr(disk, trouble)(), pytest.raises(OutputError, match=message):
        write()
    assert not contents(disk.folder)


def test_faults_of_a_program_are_not_called_trouble_with_the_disk(tmp_path):
    net = learner()
    net.net.state_dict = lambda: {"weight": lambda: 0}  # cannot be pickled
    with pytest.raises(Exception, match="pickle") as raised:
        save_state(tmp_path / "state.pt", net, Position())
    assert not isinstance(raised.value, KinemaError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("trouble", TROUBLES)
def test_videos_are_read_without_their_cache(disk, color_set, trouble):
    cache, video = IndexCache(disk.folder / "index"), color_set / "red" / "0.mp4"
    VideoFile(video, index_cache=cache).close()
    known = cache.get(video, os.stat(video))
    assert known is not None
    with getattr(disk, trouble)():
        for other in sorted(color_set.rglob("*.mp4")):
            with VideoFile(other, index_cache=cache) as opened:
                assert opened.read([0]).shape == (1, 3, 48, 64)
        assert cache.get(video, os.stat(video)) == known
    assert cache.get(video, os.stat(video)) == known
    assert not list(disk.folder.glob("*.damaged"))


def dataset(color_set: Path) -> VideoDataset:
    return VideoDataset(read_annotations(color_set / "val.csv"), color_set)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_prepared_copies_are_kept_and_the_run_goes_on_later(disk, color_set, trouble):
    out, settings = disk.folder / "small", PrepareSettings(short_side_px=32)
    prepare_dataset(dataset(color_set), out, settings=settings, workers=0)
    before = contents(out)
    lost = sorted(name for name in before if name.endswith(".mp4"))[0]
    (out / lost).unlink()
    words = "is full .*Finished copies are kept|cannot be written: .*try again"
    with getattr(disk, trouble)(left=1024) if trouble == "full" else disk.read_only():
        with pytest.raises(KinemaError, match=words):
            prepare_dataset(dataset(color_set), out, settings=settings, workers=0)
        kept = contents(out)
        assert all(kept[name] == before[name] for name in before if name != lost)
        assert lost not in kept
    report = prepare_dataset(dataset(color_set), out, settings=settings, workers=0)
    assert (report.ok, report.bad) == (6, ())
    assert contents(out).keys() == before.keys()


def test_an_upload_that_does_not_fit_is_deleted(disk, monkeypatch):
    async def parts():
        yield bytes(1 << 20)

    monkeypatch.setattr("tempfile.tempdir", str(disk.folder))
    uploads = UploadFolder()
    try:
        before = list(uploads.folder.iterdir())
        with disk.full(), pytest.raises(OSError, match="(?i)no space left|file too large"):
            asyncio.run(uploads.keep_stream(parts(), "long.mp4"))
        assert list(uploads.folder.iterdir()) == before
    finally:
        uploads.close()


def test_a_fetch_that_does_not_fit_goes_on_later(disk, monkeypatch):
    monkeypatch.setenv("KINEMA_HOME", str(disk.folder / "home"))
    known = find_published("tsm_resnet50:something_v2")
    with FileServer({"/tsm.pth": bytes(1 << 20)}) as server:
        one = dataclasses.replace(
            known,
            urls=(f"{server.url}/tsm.pth",),
            sha256=hashlib.sha256(bytes(1 << 20)).hexdigest(),
        )
        with disk.full(left=1 << 16), pytest.raises(OutputError, match=r"\.part cannot be written"):
            fetch(one)
        assert fetch(one).path.stat().st_size == 1 << 20


RECIPE = (
    """
[model]
backbone = "test_resnet"
temporal = "tsm"
frames = 2
"""
    + DATA_AND_OPTIMIZER
    + """[train]
epochs = 2
batch_size = 2
checkpoint_every_steps = 1
log_every_steps = 1
"""
)


def kinema_program(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "kinema.cli.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
def test_training_stops_with_one_line_and_goes_on_later(disk, color_set, tmp_path, trouble):
    recipe, run = tmp_path / "recipe.toml", disk.folder / "run"
    recipe.write_text(RECIPE.format(set=color_set), encoding="utf-8")
    first = kinema_program("train", recipe, "train.epochs=1", "--out", run)
    assert first.returncode == 0, first.stderr
    good = torch.load(run / "state.pt", weights_only=True)["positions"]
    # Room for the log, and for no training state.
    with disk.full(left=200_000) if trouble == "full" else disk.read_only():
        stopped = kinema_program("train", recipe, "--resume", run)
    assert stopped.returncode == 1
    assert "Traceback" not in stopped.stderr
    assert str(run) in stopped.stderr
    assert "try again" in stopped.stderr
    assert torch.load(run / "state.pt", weights_only=True)["positions"] == good
    assert load_saved(run / "best").net.classes == 3
    again = kinema_program("train", recipe, "--resume", run, "--json")
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_preparing_on_a_full_disk_is_one_line(disk, color_set):
    words = ("data", "prepare", color_set / "val.csv", "--root", color_set, "--workers", 0)
    with disk.full():
        answer = kinema_program(*words, "--out", disk.folder / "small")
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert str(disk.folder) in answer.stderr
    assert "try again" in answer.stderr or "run the command again" in answer.stderr
