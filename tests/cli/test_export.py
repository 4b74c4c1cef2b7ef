"""`kinema export` writes a verified file."""

import json
import shutil

import pytest

import kinema as package


@pytest.mark.slow
def test_the_file_is_verified_on_the_named_videos(kinema, checkpoint, color_set, tmp_path):
    out = tmp_path / "net.pt2"
    words = ("export", checkpoint, "--format", "exported", "--out", out, "--videos", color_set)
    document = kinema(*words, "--json").document
    assert document["path"] == str(out)
    assert document["clips"] == 6
    assert document["top1_agreement"] == 1
    assert document["max_rel_diff"] < 1e-4
    how = package.Recognizer.load(checkpoint).preprocessing
    assert document["inputs"] == {"clips": ["batch", how.frames, 3, how.crop_px, how.crop_px]}
    again = kinema(*words)
    assert again.code == 1
    assert "exists" in again.err
    replaced = kinema(*words, "--overwrite")
    assert replaced.code == 0
    assert "100.0% of 6 clips" in replaced.out


@pytest.mark.slow
def test_without_videos_it_says_so(kinema, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = kinema("export", checkpoint, "--format", "exported")
    assert answer.code == 0
    assert "It was verified with noise" in answer.err
    assert len(list(tmp_path.glob("*.pt2"))) == 1


def test_a_step_of_a_stream_is_verified_on_the_frames(kinema, color_set, tmp_path):
    net = package.create_model("tsm_test_resnet", classes=3, frames=4, causal=True)
    how = package.Preprocessing(frames=4, short_side_px=40, crop_px=32)
    package.save(net, tmp_path / "net", labels=["a", "b", "c"], preprocessing=how)
    words = ("--format", "exported", "--out", tmp_path / "step.pt2", "--videos", color_set)
    document = kinema("export", tmp_path / "net", "--stream", *words, "--json").document
    assert document["clips"] == 24
    assert document["max_rel_diff"] < 1e-4
    assert document["inputs"]["frames"] == [1, 3, 32, 32]


def test_wrong_use_is_refused(kinema, checkpoint, color_set):
    assert "Did you mean 'onnx'" in kinema("export", checkpoint, "--format", "onxx").err
    answer = kinema("export", checkpoint, "--int8")
    assert answer.code == 2
    assert "--int8 and --calibration belong together" in answer.err


def test_a_network_named_as_a_path_is_written_here(kinema, checkpoint, tmp_path, monkeypatch):
    folder = shutil.copytree(checkpoint, tmp_path / "net")
    config = json.loads((folder / "config.json").read_text())
    config["network"]["name"] = "../../outside"
    (folder / "config.json").write_text(json.dumps(config))
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    answer = kinema("export", folder, "--format", "exported")
    assert answer.code == 0, answer.err
    assert [path.name for path in here.iterdir()] == ["outside.pt2"]
