"""torchcodec gives the same frames as PyAV and is used only where it does."""

import sys

import pytest
import torch

from kinema import Recognizer
from kinema.errors import MissingExtraError, OptionError, UnreadableVideoError
from kinema.video.decode import VideoFile, open_source
from kinema.video.device_file import DeviceFile, open_on_device


def loads() -> bool:
    try:
        from torchcodec.decoders import VideoDecoder  # noqa: F401
    except (ImportError, RuntimeError):
        return False
    return True


# An extra, and it needs FFmpeg's libraries from the system.
needs_torchcodec = pytest.mark.skipif(not loads(), reason="torchcodec or its FFmpeg is missing")
TRUSTED = (
    "k400_tai_chi.mp4",
    "k400_flipping_a_pancake.mkv",
    "ssth_1.webm",
    "rot_90.mov",
    "nasa_13013.mp4",
    "bt709_full_range.mp4",
    "av1_video.mkv",
)
no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, no_gpu])]


@needs_torchcodec
@pytest.mark.data
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", TRUSTED)
def test_both_decoders_give_the_same_frames(data_dir, name, device):
    path = data_dir / "clips" / name
    with open_source(path) as plain, open_on_device(path, device) as source:
        assert isinstance(source, DeviceFile)
        assert source.exact_stream is not None
        last = plain.info.frames - 1
        wanted = [last, 0, last // 3, 0]
        frames = source.read(wanted)
        assert frames.device.type == device
        # The engine of a GPU rounds colors in its own way.
        tolerance = 0 if device == "cpu" else 3
        difference = frames.cpu().int() - plain.read(wanted).int()
        assert difference.abs().float().mean() <= tolerance
        with pytest.raises(OptionError, match="asked for"):
            source.read([last + 1])


@pytest.mark.data
@pytest.mark.parametrize("name", ["h264_10bits.mp4", "mmaction2_test.avi"])
def test_other_files_are_decoded_as_ever(data_dir, name):
    path = data_dir / "clips" / name
    with open_source(path) as plain, open_on_device(path, "cuda") as source:
        assert torch.equal(source.read([0, 1]), plain.read([0, 1]))


def test_unreadable_files_are_found_before_torchcodec_sees_them(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(UnreadableVideoError, match="empty.mp4"):
        open_on_device(tmp_path / "empty.mp4", "cuda")


@needs_torchcodec
@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_a_missing_device_is_named(color_set, monkeypatch):
    monkeypatch.setattr(VideoFile, "exact_stream", 0)  # whatever encoder made the file
    with pytest.raises(UnreadableVideoError, match="cannot be decoded on cuda"):
        open_on_device(color_set / "red" / "0.mp4", "cuda")


def test_without_torchcodec_the_extra_is_named(color_set, monkeypatch):
    monkeypatch.setattr(VideoFile, "exact_stream", 0)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(MissingExtraError, match=r"\.\[nvdec\]"):
        open_on_device(color_set / "red" / "0.mp4", "cpu")


@needs_torchcodec
@pytest.mark.data
def test_a_prediction_is_the_same(checkpoint, data_dir):
    recognizer = Recognizer.load(checkpoint)
    clip = data_dir / "clips" / "k400_tai_chi.mp4"
    plain = recognizer.predict(clip, clips=2)
    assert (recognizer.predict(clip, clips=2, decode_on="cpu").scores == plain.scores).all()
