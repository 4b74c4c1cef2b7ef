"""`kinema predict` on files and folders, good and broken."""

import json
import shutil

import pytest
from PIL import Image

from kinema import Recognizer


@pytest.fixture
def broken(tmp_path, color_set):
    """Folder with a good video, a broken one in a subfolder, and a text file."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    good = (color_set / "red" / "0.mp4").read_bytes()
    (tmp_path / "good.mp4").write_bytes(good)
    (tmp_path / "deep" / "er" / "cut.mp4").write_bytes(good[: len(good) // 3])
    (tmp_path / "notes.txt").write_text("no video")
    return tmp_path


def test_the_command_agrees_with_python(kinema, checkpoint, color_set):
    video = color_set / "green" / "1.mp4"
    words = ("predict", checkpoint, video, "--clips", 2, "--crops", 3, "--top", 2)
    (row,) = kinema(*words, "--json").document
    expected = Recognizer.load(checkpoint).predict(video, clips=2, crops=3, top=2)
    assert row["path"] == str(video)
    assert [(e["label"], e["name"]) for e in row["top"]] == [
        (c.label, c.name) for c in expected.top
    ]
    assert [e["prob"] for e in row["top"]] == pytest.approx(
        [c.prob for c in expected.top], abs=1e-5
    )
    answer = kinema(*words)
    assert answer.code == 0
    assert str(video) in answer.out
    assert f"{100 * expected.top[0].prob:.1f} %" in answer.out


def test_folders_are_searched(kinema, checkpoint, color_set):
    rows = kinema("predict", checkpoint, color_set, "--json").document
    assert [row["path"] for row in rows] == [
        str(color_set / name / f"{number}.mp4")
        for name in ("blue", "green", "red")
        for number in (0, 1)
    ]


def test_folders_of_frames_are_videos(kinema, checkpoint, tmp_path):
    for name in ("one", "two"):
        (tmp_path / "frames" / name).mkdir(parents=True)
        for number in range(5):
            picture = Image.new("RGB", (48, 40), (9 * number, 0, 0))
            picture.save(tmp_path / "frames" / name / f"{number}.jpg")
    one = tmp_path / "frames" / "one"
    (row,) = kinema("predict", checkpoint, one, "--json").document
    assert (row["path"], len(row["top"])) == (str(one), 3)
    rows = kinema("predict", checkpoint, tmp_path / "frames", "--json").document
    assert [row["path"] for row in rows] == [str(one), str(tmp_path / "frames" / "two")]


def test_a_picture_beside_videos_is_ignored(kinema, checkpoint, broken):
    Image.new("RGB", (8, 8)).save(broken / "preview.jpg")
    rows = kinema("predict", checkpoint, broken, "--json").document
    assert len(rows) == 2


def test_broken_videos_are_reported_and_the_others_predicted(kinema, checkpoint, broken):
    words = ("predict", checkpoint, broken / "gone.mp4", broken)
    answer = kinema(*words, "--json")
    assert answer.code == 1
    gone, cut, good = answer.document
    assert gone == {
        "path": str(broken / "gone.mp4"),
        "error": f"{broken / 'gone.mp4'} does not exist.",
    }
    assert cut["path"].endswith("cut.mp4")
    assert "cut.mp4" in cut["error"]
    assert len(good["top"]) == 3
    assert answer.err == "2 of 3 videos could not be read\n"
    table = kinema(*words)
    assert table.code == 1
    assert table.out.count("cannot be read") == 2
    assert "gone.mp4 does not exist" in table.err
    assert table.out.count("%") == 3


def test_a_folder_without_videos_is_an_error(kinema, checkpoint, tmp_path):
    (tmp_path / "notes.txt").touch()
    answer = kinema("predict", checkpoint, tmp_path, "--json")
    assert answer.code == 1
    assert "holds no frames" in answer.document[0]["error"]


def test_wrong_options_and_checkpoints(kinema, checkpoint, color_set, tmp_path):
    video = color_set / "red" / "0.mp4"
    answer = kinema("predict", checkpoint, video, "--crops", 2)
    assert (answer.code, answer.out) == (1, "")
    assert "crops must be 1, 3 or 10, got 2" in answer.err
    answer = kinema("predict", checkpoint, video, "--device", "gpu")
    assert (answer.code, answer.out) == (1, "")
    assert "PyTorch cannot compute on 'gpu' here. Valid are: cpu" in answer.err
    answer = kinema("predict", tmp_path, video)
    assert answer.code == 1
    assert "is not a kinema checkpoint" in answer.err
    config = json.loads((checkpoint / "config.json").read_text())
    config["network"]["backbone"] = "resnet18"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    answer = kinema("predict", tmp_path, video)
    assert answer.code == 1
    assert "does not fit this network" in answer.err


@pytest.mark.data
@pytest.mark.slow
def test_every_real_clip_is_labeled_or_explained(kinema, checkpoint, data_dir):
    rows = kinema("predict", checkpoint, data_dir / "clips", "--json").document
    failed = {row["path"].rsplit("/", 1)[1]: row["error"] for row in rows if "error" in row}
    assert set(failed) == {"bad_corrupted.mp4"}
    assert "bad_corrupted.mp4" in failed["bad_corrupted.mp4"]
    assert len(rows) > 30


def test_names_do_not_reach_the_terminal_as_commands(kinema, checkpoint, color_set, tmp_path):
    """Class names of a network and file names come from other people."""
    evil = shutil.copytree(checkpoint, tmp_path / "evil")
    config = json.loads((evil / "config.json").read_text("utf-8"))
    config["labels"] = [f"\x1b]0;owned\x07{number}" for number in range(3)]
    (evil / "config.json").write_text(json.dumps(config), "utf-8")
    video = tmp_path / "a\x1b[2J.mp4"
    video.write_bytes((color_set / "red" / "0.mp4").read_bytes())
    (tmp_path / "b\x1b[2J.mp4").write_bytes(b"no video")
    for words in ((video,), (tmp_path,), (tmp_path / "c\x1b[2J.mp4",)):
        answer = kinema("predict", evil, *words)
        assert "\x1b" not in answer.out + answer.err
        assert "\x07" not in answer.out + answer.err
        assert "\\x1b[2J.mp4" in answer.out + answer.err
    assert "\\x1b]0;owned" in kinema("predict", evil, video).out
