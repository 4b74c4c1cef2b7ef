"""What the workers do, without Ray."""

import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from kinema.archive.decode_stage import DecodeStage
from kinema.archive.label_stage import LabelStage, fastest_form, with_features
from kinema.archive.listing import read_listing
from kinema.archive.settings import ClusterSettings, LabelSettings, Work
from kinema.errors import OptionError
from kinema.inference.predict import ClipRecognizer

PATHS = ["red/0.mp4", "gone.mp4", "blue/1.mp4"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def work(checkpoint, color_set) -> Work:
    how = ClipRecognizer.load(checkpoint, device="cpu").preprocessing
    settings = LabelSettings(clips=2, crops=3, top=2, features=True)
    return Work(str(checkpoint), str(color_set), how, settings, "cpu", threads=1, plugins=())


@pytest.fixture(scope="module")
def decode(work) -> Iterator[DecodeStage]:
    with DecodeStage(work) as stage:
        yield stage


@pytest.fixture(scope="module")
def decoded(decode) -> pa.Table:
    return decode(pa.table({"number": [7, 8, 9], "path": PATHS}))


@pytest.mark.parametrize("average", ["scores", "probs"])
def test_rows_are_what_predict_says(work, decoded, checkpoint, color_set, average):
    work = replace(work, preprocessing=replace(work.preprocessing, average=average))
    rows = LabelStage(work)(decoded).to_pylist()
    assert [row["number"] for row in rows] == [7, 8, 9]
    assert len({row["began"] for row in rows}) == 1
    recognizer = ClipRecognizer.load(checkpoint, device="cpu")
    recognizer.preprocessing = work.preprocessing
    for row in (rows[0], rows[2]):
        wanted = recognizer.predict(color_set / row["path"], clips=2, crops=3, top=2)
        assert [entry["name"] for entry in row["top"]] == [entry.name for entry in wanted.top]
        probs = [entry["prob"] for entry in row["top"]]
        assert probs == pytest.approx([entry.prob for entry in wanted.top], abs=1e-5)
        assert row["error"] is None
        assert len(row["features"]) == recognizer.net.head.classifier.in_features
    bad = rows[1]
    assert (bad["path"], bad["top"], bad["features"]) == ("gone.mp4", None, None)
    assert bad["error"].endswith("gone.mp4 does not exist.")


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_the_fastest_form_gives_the_same_rows(work, decoded):
    plain = LabelStage(work)(decoded).to_pylist()
    form = fastest_form(work, ["gone.mp4", *PATHS])
    fast = LabelStage(replace(work, form=form))(decoded).to_pylist()
    for got, wanted in zip(fast, plain, strict=True):
        assert (got["path"], got["error"]) == (wanted["path"], wanted["error"])
        if wanted["error"] is None:
            np.testing.assert_allclose(got["features"], wanted["features"], rtol=0.05, atol=0.05)


@pytest.mark.slow
def test_names_that_are_not_utf8_are_opened(work, color_set, tmp_path):
    good = (color_set / "red" / "0.mp4").read_bytes()
    for name, content in ((b"caf\xe9.mp4", good), (b"bad\xe9.mp4", b""), (b"c\\xe9.mp4", good)):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(content)
    paths = read_listing(tmp_path, root=None).paths.to_pylist()
    assert paths == [r"bad\xe9.mp4", r"c\xe9.mp4", r"caf\xe9.mp4"]
    with DecodeStage(replace(work, root=str(tmp_path))) as stage:
        errors = stage(pa.table({"number": [0, 1, 2], "path": paths}))["error"].to_pylist()
    assert errors[1:] == [None, None]
    assert r"bad\xe9.mp4 is empty" in errors[0]


def test_only_failed_videos_make_rows_too(work, decode):
    rows = LabelStage(work)(decode(pa.table({"number": [0], "path": ["gone.mp4"]})))
    assert rows["top"].null_count == rows.num_rows == 1


def test_features_come_with_unchanged_scores(checkpoint):
    net = ClipRecognizer.load(checkpoint, device="cpu").net
    clips = torch.randn(2, 4, 3, 32, 32)
    seen = []
    hook = net.head.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        scores, both = net(clips), with_features(net)(clips)
    hook.remove()
    torch.testing.assert_close(both[:, :3], scores, rtol=0, atol=1e-5)
    features = torch.unflatten(seen[0], 0, (2, 4)).mean(1)
    assert features.std() > 0.01
    torch.testing.assert_close(both[:, 3:], features, rtol=0, atol=1e-5)
    assert net(clips).shape == (2, 3)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"crops": 2}, "crops must be 1, 3 or 10, got 2"),
        ({"top": 0}, "top must be at least 1, got 0"),
        ({"decode_s": 0}, "decode_s must be at least 1"),
        ({"file_rows": 0}, "file_rows must be at least 1"),
    ],
)
def test_wrong_settings(settings, reason):
    with pytest.raises(OptionError, match=reason):
        LabelSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"store_mb": 50}, "store_mb must be at least 80, got 50"),
        ({"device": "cuda:1"}, "device must be cpu or cuda, got 'cuda:1'; Ray chooses"),
    ],
)
def test_wrong_clusters(settings, reason):
    with pytest.raises(OptionError, match=reason):
        ClusterSettings(**settings)
