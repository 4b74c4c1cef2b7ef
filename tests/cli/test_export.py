"""`kinema export` writes a verified file."""

import kinema as package


def test_the_file_is_verified_on_the_named_videos(kinema, checkpoint, colour_set, tmp_path):
    out = tmp_path / "net.pt2"
    words = ("export", checkpoint, "--format", "exported", "--out", out, "--videos", colour_set)
    document = kinema(*words, "--json").document
    assert document["path"] == str(out)
    assert document["clips"] == 6
    assert document["top1_agreement"] == 1
    assert document["max_rel_diff"] < 1e-4
    how = package.Recognizer.load(checkpoint).preprocessing
    assert document["input_shape"] == ["batch", how.frames, 3, how.crop_px, how.crop_px]
    again = kinema(*words)
    assert again.code == 1
    assert "exists" in again.err
    replaced = kinema(*words, "--overwrite")
    assert replaced.code == 0
    assert "100.0% of 6 clips" in replaced.out


def test_without_videos_it_says_so(kinema, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = kinema("export", checkpoint, "--format", "exported")
    assert answer.code == 0
    assert "Verified with noise" in answer.err
    assert len(list(tmp_path.glob("*.pt2"))) == 1


def test_wrong_use_is_refused(kinema, checkpoint, colour_set):
    assert "Did you mean 'onnx'" in kinema("export", checkpoint, "--format", "onxx").err
    answer = kinema("export", checkpoint, "--int8")
    assert answer.code == 2
    assert "--int8 and --calibration belong together" in answer.err
