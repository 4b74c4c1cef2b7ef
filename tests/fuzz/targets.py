"""What is fed with damaged files: each target turns a seed into a file and reads it.

A target returns when the file was read and raises KinemaError, with the file's name in its message,
when it was not. Everything else is a finding.
"""

import os
import random
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import TypeVar

import torch
from mutate import damaged
from recordings import make_recordings

import kinema
from kinema import Recognizer
from kinema.data.annotations import read_annotations
from kinema.live.connection import Connection
from kinema.live.sources import open_live
from kinema.live.stream import StreamSettings
from kinema.models.convert.importer import import_checkpoint
from kinema.models.saved import load_saved
from kinema.sweep.spec import load_sweep
from kinema.train.recipe import load_recipe
from kinema.values import Preprocessing
from kinema.video.decode import is_video_path, open_source
from kinema.video.index_cache import CACHE_NAME, IndexCache

REPOSITORY = Path(__file__).resolve().parents[2]
VIDEO_BYTES = 3 << 20  # larger originals would only be slower
LABELS = ("a", "b", "c")

Choice = TypeVar("Choice")


# Annotation files as they are written for each format: name, text and class list.
ANNOTATIONS: dict[str, tuple[str, str, str | None]] = {
    "csv": ("a.csv", "path,label,start_frame,frames\nx/1.mp4,run,0,12\ny/2.mp4,jump,5,\n", None),
    "video_list": ("a.list", "abseiling/_4YT.mp4 0\nrunning/x y.mp4 1\n", None),
    "rawframe_list": ("a.list", "abseiling/_4YT 120 0\nrunning/x 31 1\n", None),
    "kinetics": (
        "a.csv",
        "label,youtube_id,time_start,time_end,split,is_cc\nabseiling,0wR5jVB-WPk,417,427,val,0\n",
        "kinetics400",
    ),
    "sthv1": ("a.csv", "1;Holding something\n2;Closing something\n", "something_v1"),
    "sthv2": (
        "a.json",
        '[{"id":"7","label":"holding potato","template":"Holding [something]",'
        '"placeholders":["potato"]}]',
        "something_v2",
    ),
    "jester": ("a.csv", "9223;Thumb Up\n42920;Swiping Left\n", "jester"),
    "ucf101": ("a.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n", "ucf101"),
    "diving48": ("a.json", '[{"vid_name":"a_1","label":3,"start_frame":0,"end_frame":99}]', None),
    "moments_in_time": (
        "trainingSet.csv",
        "adult+female+singing/yt-a_1.mp4,adult+female+singing,4,0\nracing/2.mp4,racing,3,1\n",
        None,
    ),
}


@dataclass(frozen=True)
class Originals:
    """Sound files to damage, made once for every process.

    Attributes:
        data: Folder with clips/ of real videos.
        kept: Folder for what is made once.
        work: Folder for damaged files; empty before and after every seed.
    """

    data: Path
    kept: Path
    work: Path


def videos(originals: Originals, seed: int) -> None:
    """A damaged video is labeled, or is an error."""
    source = _pick(_video_files(originals), seed)
    file = originals.work / f"damaged{source.suffix}"
    file.write_bytes(damaged(source.read_bytes(), seed))
    _recognizer().predict(file)


def recordings(originals: Originals, seed: int) -> None:
    """A damaged recording becomes a timeline or the results of a stream, or is an error."""
    source = _pick(_recordings(originals.kept), seed)
    file = originals.work / f"damaged{source.suffix}"
    file.write_bytes(damaged(source.read_bytes(), seed))
    recognizer = _recognizer(causal=True)
    if seed % 3 == 0:
        recognizer.timeline(file)
        return
    # The server's answer has a length, so that it is a video with an end.
    address = str(file) if seed % 3 == 1 else f"{_server(originals.work)}/{file.name}"
    live = open_live(address, connection=Connection(retries=0))
    with recognizer.stream(live, StreamSettings(rate_hz=8, pace="full")) as results:
        times_s = [result.time_s for result in results]
    assert times_s == sorted(set(times_s))


def annotations(originals: Originals, seed: int) -> None:
    """A damaged annotation file gives rows, or is an error."""
    name = _pick(tuple(ANNOTATIONS), seed)
    file_name, text, classes = ANNOTATIONS[name]
    file = originals.work / f"damaged_{file_name}"
    file.write_bytes(damaged(text.encode(), seed))
    read_annotations(file, format=name, root=originals.work, classes=classes)


def recipes(originals: Originals, seed: int) -> None:
    """A damaged recipe or sweep is settings, or is an error."""
    source = _pick(_recipe_files(), seed)
    file = originals.work / "damaged.toml"
    file.write_bytes(damaged(source.read_bytes(), seed))
    if source.parent.name == "sweeps":
        recipe = REPOSITORY / "src" / "kinema" / "recipes" / "motion.toml"
        load_sweep(file, out=originals.work / "out", recipe=recipe)
    else:
        load_recipe(file)


def checkpoints(originals: Originals, seed: int) -> None:
    """A damaged checkpoint folder is a network, or is an error."""
    folder = originals.work / "damaged"
    shutil.copytree(_checkpoint(originals.kept), folder)
    name = random.Random(seed).choice(("config.json", "model.safetensors"))
    (folder / name).write_bytes(damaged((folder / name).read_bytes(), seed))
    load_saved(folder)


def imports(originals: Originals, seed: int) -> None:
    """A damaged published checkpoint is converted, or is an error."""
    file = originals.work / "damaged.pth"
    file.write_bytes(damaged(_published(originals.kept).read_bytes(), seed))
    import_checkpoint(file, model="tsn_test_resnet")


def index_caches(originals: Originals, seed: int) -> None:
    """With a damaged index cache a video is read as without."""
    video = originals.work / "sound.mp4"
    shutil.copy(_small_video(originals), video)
    file = originals.work / CACHE_NAME
    with open_source(video, index_cache=IndexCache.chosen(str(file), originals.work)):
        pass
    file.write_bytes(damaged(file.read_bytes(), seed))
    with open_source(video, index_cache=IndexCache.chosen(str(file), originals.work)) as source:
        assert len(source.read([0, source.info.frames - 1])) == 2


def _pick(choices: Sequence[Choice], seed: int) -> Choice:
    return random.Random(~seed).choice(choices)


@cache
def _video_files(originals: Originals) -> tuple[Path, ...]:
    files = sorted(path for path in (originals.data / "clips").iterdir() if is_video_path(path))
    clips = tuple(path for path in files if path.stat().st_size < VIDEO_BYTES)
    return clips + _recordings(originals.kept)


@cache
def _recordings(kept: Path) -> tuple[Path, ...]:
    return make_recordings(kept / f"recordings_{os.getpid()}")


@cache
def _server(folder: Path) -> str:
    """Address of an HTTP server for the files of a folder, which answers one request at a time."""
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


@cache
def _small_video(originals: Originals) -> Path:
    sound = [path for path in _video_files(originals) if path.stem == "k400_tai_chi"]
    return sound[0]


@cache
def _recipe_files() -> tuple[Path, ...]:
    return tuple(sorted((REPOSITORY / "src" / "kinema" / "recipes").rglob("*.toml")))


@cache
def _recognizer(*, causal: bool = False) -> Recognizer:
    torch.manual_seed(0)
    net = kinema.create_model("tsm_test_resnet", classes=len(LABELS), frames=4, causal=causal)
    how = Preprocessing(frames=4, short_side_px=40, crop_px=32)
    return Recognizer(net, LABELS, how, device="cpu")


@cache
def _checkpoint(kept: Path) -> Path:
    recognizer = _recognizer()
    folder = kept / f"checkpoint_{os.getpid()}"
    return kinema.save(
        recognizer.net, folder, labels=LABELS, preprocessing=recognizer.preprocessing
    )


@cache
def _published(kept: Path) -> Path:
    """A file like those of the authors: a state dict of tensors."""
    net = kinema.create_model("tsn_test_resnet", classes=5, frames=4)
    weights = {f"base_model.{name}": value for name, value in net.backbone.state_dict().items()}
    weights["new_fc.weight"] = net.head.classifier.weight.detach()
    weights["new_fc.bias"] = net.head.classifier.bias.detach()
    file = kept / f"published_{os.getpid()}.pth"
    torch.save({"state_dict": weights, "epoch": 3}, file)
    return file


TARGETS: dict[str, Callable[[Originals, int], None]] = {
    target.__name__: target
    for target in (videos, recordings, annotations, recipes, checkpoints, imports, index_caches)
}
