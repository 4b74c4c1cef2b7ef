"""Videos in every form that people have them, and typed errors for everything else."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from kinema import Recognizer
from kinema.errors import (
    InputShapeError,
    InputTypeError,
    KinemaError,
    OptionError,
    UnreadableVideoError,
)
from kinema.values import Prediction
from kinema.video.decode import open_source

from ...file_server import FileServer


@pytest.fixture(scope="module")
def recognizer(checkpoint) -> Recognizer:
    return Recognizer.load(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def frames(video) -> np.ndarray:
    """(n, H, W, 3) of the video."""
    with open_source(video) as source:
        return source.read(range(source.info.frames)).permute(0, 2, 3, 1).contiguous().numpy()


def test_a_call_is_a_prediction(recognizer, video):
    called = recognizer(video, clips=2, crops=3, top=2)
    assert isinstance(called, Prediction)
    assert_array_equal(called.scores, recognizer.predict(video, clips=2, crops=3).scores)
    assert len(called.top) == 2


def test_paths_bytes_and_file_objects_are_the_same_video(recognizer, video):
    expected = recognizer.predict(video)
    data = video.read_bytes()
    for given, name in (
        (str(video), str(video)),
        (data, "bytes in memory"),
        (bytearray(data), "bytes in memory"),
        (memoryview(data), "bytes in memory"),
        (io.BytesIO(data), "file object"),
    ):
        prediction = recognizer(given)
        assert_array_equal(prediction.scores, expected.scores)
        assert prediction.path == name
    with video.open("rb") as file:
        assert recognizer(file).path == str(video)


def test_an_address_is_fetched(recognizer, video):
    with FileServer({"/a.mp4": video.read_bytes()}) as server:
        assert_array_equal(recognizer(f"{server.url}/a.mp4").scores, recognizer(video).scores)


def test_pictures_are_a_video(recognizer, frames):
    expected = recognizer.predict_frames(frames).scores
    pictures = [Image.fromarray(frame) for frame in frames]
    mixed = [pictures[0], torch.from_numpy(frames[1]), *frames[2:]]
    with_alpha = [picture.convert("RGBA") for picture in pictures]
    for given in (pictures, tuple(pictures), mixed, with_alpha, frames, list(frames)):
        prediction = recognizer(given)
        assert_array_equal(prediction.scores, expected)
        assert prediction.path == "frames in memory"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f4", np.float64])
def test_floats_between_0_and_1_are_the_bytes_they_come_from(recognizer, frames, dtype):
    expected = recognizer(frames).scores
    floats = (frames / 255).astype(dtype)
    assert_array_equal(recognizer(floats).scores, expected)
    if dtype != ">f4":
        assert_array_equal(recognizer(torch.from_numpy(floats)).scores, expected)
        first = torch.from_numpy(floats).permute(0, 3, 1, 2).requires_grad_()
        assert_array_equal(recognizer.predict_frames(first).scores, expected)


def test_a_batch_and_a_list_give_one_prediction_each(recognizer, frames, video):
    other = frames[::-1].copy()
    expected = [recognizer(frames).scores, recognizer(other).scores]
    batch = np.stack([frames, other])
    for given in (
        batch,
        torch.from_numpy(batch),
        torch.from_numpy(batch).permute(0, 1, 4, 2, 3),
        batch / 255,
        [frames, other],
        [[Image.fromarray(f) for f in frames], list(other)],
        (video for video in batch),
    ):
        found = recognizer(given)
        assert isinstance(found, list)
        for prediction, scores in zip(found, expected, strict=True):
            assert_array_equal(prediction.scores, scores)
    assert [p.path for p in recognizer(np.array([str(video), str(video)]))] == [str(video)] * 2
    assert recognizer([]) == []


def test_predictions_of_a_list_come_one_by_one(recognizer, video, tmp_path):
    calls = []
    found = recognizer.predict(
        [video, tmp_path / "gone.mp4", video], progress=lambda *done: calls.append(done)
    )
    assert calls == []
    assert next(found).path == str(video)
    assert calls == [(1, 3)]
    with pytest.raises(UnreadableVideoError, match="gone.mp4 does not exist"):
        next(found)
    # As with `map`, an error ends one video and not the iterator.
    assert next(found).path == str(video)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert list(found) == []
    endless = recognizer.predict(iter([video]), progress=lambda *done: calls.append(done))
    assert len(list(endless)) == 1
    assert calls[-1] == (1, 0)


def test_options_are_checked_before_the_first_video(recognizer, video):
    with pytest.raises(OptionError, match="crops must be 1, 3 or 10, got 2"):
        recognizer.predict([video], crops=2)
    for wrong in ("3", 1.5, None, [1]):
        with pytest.raises(
            OptionError, match=rf"clips must be a whole number, got {wrong!r}".replace("[", r"\[")
        ):
            recognizer(video, clips=wrong)
        with pytest.raises(OptionError, match="top must be a whole number"):
            recognizer(video, top=wrong)
    with pytest.raises(OptionError, match="decode_on is for files and addresses"):
        recognizer.predict(np.zeros((4, 8, 8, 3), np.uint8), decode_on="cuda")


WRONG_TYPES = {
    "None": None,
    "int": 3,
    "float": 0.5,
    "dict": {"path": "a.mp4"},
    "set": {"a.mp4"},
    "object": object(),
    "type": Image.Image,
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_other_types_are_refused_by_name(recognizer, name):
    with pytest.raises(InputTypeError, match=rf"{name} is not a video. Give a path, an address"):
        recognizer(WRONG_TYPES[name])
    with pytest.raises(TypeError, match=rf"{name} is not a video"):
        recognizer([WRONG_TYPES[name]])


def test_a_list_within_a_list_is_refused(recognizer):
    with pytest.raises(InputTypeError, match="list is not a video"):
        recognizer([["a.mp4", "b.mp4"]])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((48, 64, 3), np.uint8), r"\(48, 64, 3\) uint8. One picture"),
        (Image.new("RGB", (8, 8)), "One picture is not a video: give a list of frames"),
        ([Image.new("RGB", (8, 8)), Image.new("RGB", (8, 9))], "frames of one size"),
        ([np.zeros((8, 8), np.uint8)], r"got \(1, 8, 8\) uint8"),
        (np.full((4, 8, 8, 3), 200.0), r"floats must be from 0 to 1, got 200 to 200"),
        (np.full((4, 8, 8, 3), -1.0), r"floats must be from 0 to 1, got -1 to -1"),
        (np.full((4, 8, 8, 3), np.nan), r"floats must be from 0 to 1, got nan"),
        (torch.full((4, 3, 8, 8), 2.0), r"floats must be from 0 to 1, got 2 to 2"),
        (np.zeros((4, 8, 8, 3), np.int64), r"got \(4, 8, 8, 3\) int64"),
        (np.zeros((4, 8, 8, 3), bool), r"got \(4, 8, 8, 3\) bool"),
        (np.zeros((4, 8, 8, 3), complex), r"got \(4, 8, 8, 3\) complex128"),
        (np.zeros((0, 4, 8, 8, 3), np.uint8), "0 videos"),
        (torch.zeros((4, 8, 8, 3), device="meta"), "meta"),
        (torch.zeros((4, 8, 8, 3)).to_sparse(), "sparse"),
        (np.zeros((1, 2, 4, 8, 8, 3), np.uint8), r"\(1, 2, 4, 8, 8, 3\) uint8"),
        (np.uint8(3), r"got \(\) uint8"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_refused(recognizer, wrong, message):
    with pytest.raises(InputShapeError, match=message):
        recognizer(wrong)


class _Text(io.StringIO):
    pass


def test_file_objects_that_are_no_video(recognizer, video, tmp_path):
    used = io.BytesIO(video.read_bytes())
    used.read()
    with pytest.raises(UnreadableVideoError, match="file object .*no bytes.*seek"):
        recognizer(used)
    closed = io.BytesIO(b"1")
    closed.close()
    with pytest.raises(UnreadableVideoError, match="file object cannot be read: I/O operation"):
        recognizer(closed)
    with pytest.raises(InputTypeError, match='gives no bytes: open it in binary mode, "rb"'):
        recognizer(_Text("hello"))
    with pytest.raises(UnreadableVideoError, match="^bytes in memory "):
        recognizer(b"hello")
    with pytest.raises(UnreadableVideoError, match="^bytes in memory "):
        recognizer(b"")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[:300])
    with (
        cut.open("rb") as file,
        pytest.raises(UnreadableVideoError, match=f"^{re.escape(str(cut))}"),
    ):
        recognizer(file)


def test_names_that_no_file_can_have(recognizer):
    for name in ("a\0.mp4", "a" * 5000, "", " ", "\ud800.mp4", Path("a\0")):
        with pytest.raises(UnreadableVideoError):
            recognizer(name)


def _input(rng: np.random.Generator, video: Path, data: bytes) -> object:
    """One input of random kind and content, right or wrong."""
    dtypes = (
        np.uint8,
        np.float32,
        np.float16,
        np.int32,
        bool,
        complex,
        ">f8",
        "U3",
        object,
        "M8[s]",
    )
    shape = [int(n) for n in rng.integers(0, 9, rng.integers(0, 7))]
    if rng.random() < 0.6:  # often nearly a video
        shape = [int(rng.integers(1, 7)), 8, 10, 3]
        if rng.random() < 0.3:
            shape.insert(0, int(rng.integers(0, 3)))
        if rng.random() < 0.3:
            shape[rng.integers(len(shape))] = int(rng.integers(0, 12))
    values = np.asarray(rng.random(shape) * rng.choice([1, 1, 2, 255]))
    array = values.astype(dtypes[rng.integers(len(dtypes))])
    fits = array.dtype.kind in "ufibc" and array.dtype != ">f8"
    tensor = torch.from_numpy(array if fits else values)
    size = tuple(int(n) for n in rng.integers(1, 12, 2))
    mode = str(rng.choice(["RGB", "L", "1", "P", "RGBA", "CMYK", "I", "F", "LAB", "I;16"]))
    pictures = [Image.new(mode, size) for _ in range(rng.integers(0, 4))]
    cut = data[: int(rng.integers(len(data)))]
    damaged = bytearray(data)
    for place in rng.integers(0, len(data), 20):
        damaged[place] = rng.integers(256)
    simple: tuple[object, ...] = (
        *(None, 3, 2.5, True, {}, {"a": 1}, {1}, range(3), object(), slice(3), [], ()),
        *("", "gone.mp4", "a\0b", "x" * 300, "http:///", str(video), video, video.parent),
        *(b"", cut, bytes(damaged), io.BytesIO(cut), io.StringIO("a"), print, Exception("a")),
    )
    kinds = (
        lambda: array,
        lambda: list(array) if array.ndim else array.tolist(),
        lambda: tensor,
        array.tolist,
        lambda: pictures,
        lambda: pictures[0] if pictures else None,
        lambda: [*pictures, array],
        lambda: simple[rng.integers(len(simple))],
        lambda: [simple[i] for i in rng.integers(0, len(simple), 2)],
    )
    return kinds[rng.integers(len(kinds))]()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_a_thousand_mixed_inputs_give_answers_or_typed_errors(recognizer, video):
    rng = np.random.default_rng(23)
    data = video.read_bytes()
    answers = errors = 0
    for number in range(1000):
        given = _input(rng, video, data)
        call = (recognizer, recognizer.embed)[number % 2]
        try:
            found = call(given)
            # `embed` of several videos is an iterator.
            found = found if isinstance(found, Prediction | np.ndarray) else list(found)
        except KinemaError:
            errors += 1
        except Exception as error:  # any other class is the fault that the test looks for
            raise AssertionError(f"input {number}, {type(given)}: {given!r:.300}") from error
        else:
            assert isinstance(found, Prediction | np.ndarray | list)
            answers += 1
    assert answers > 150
    assert errors > 500


def test_embeddings_are_the_mean_features(recognizer, frames, video):
    features = recognizer.embed(video)
    assert features.shape == (recognizer.net.head.classifier.in_features,)
    assert features.dtype == np.float32
    # The classifier is linear, so it turns mean features into mean scores.
    classifier = recognizer.net.head.classifier
    scores = classifier(torch.from_numpy(features)).detach().numpy()
    assert_allclose(scores, recognizer(video).scores, rtol=0, atol=1e-4)
    many = recognizer.embed(video, clips=2, crops=3)
    scores = classifier(torch.from_numpy(many)).detach().numpy()
    assert_allclose(scores, recognizer(video, clips=2, crops=3).scores, rtol=0, atol=1e-4)
    by_frame = recognizer.embed(video, per_frame=True)
    assert by_frame.shape == (4, len(features))
    assert_allclose(by_frame.mean(0), features, rtol=0, atol=1e-5)
    both = list(recognizer.embed([video, frames]))
    assert_array_equal(both[0], features)
    assert_array_equal(both[1], recognizer.embed(frames))
    with pytest.raises(OptionError, match="per_frame is for one clip, got clips=2"):
        recognizer.embed(video, clips=2, per_frame=True)


def test_the_name_of_a_recognizer(recognizer):
    assert repr(recognizer) == (
        "Recognizer(tsm_test_resnet, 3 classes: red, green, blue; clips of 4 x 32 x 32; cpu)"
    )
