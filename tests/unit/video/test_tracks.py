"""The track of a file that players show, where it has several."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition

from kinema.decoders.jobs import ClipsJob, VideoLimits, facts_of
from kinema.decoders.wire import Message
from kinema.decoders.worker import _frames
from kinema.live.connection import Connection
from kinema.live.sources import open_live
from kinema.values import Preprocessing
from kinema.video.container import main_video, open_container
from kinema.video.decode import VideoFile

from ...stores import web_server
from ..conftest import number_of, painted
from .reading import pictures

PREVIEW, SMALL, LARGE = (32, 24), (64, 48), (96, 64)
NONE, DEFAULT = Disposition(0), Disposition.default


def write_tracks(path: Path, *tracks: tuple[tuple[int, int], Disposition]) -> Path:
    """Tracks of 24 frames, a preview of 2."""
    with av.open(str(path), "w") as file:
        streams = []
        for size, disposition in tracks:
            stream = file.add_stream("libx264", rate=1 if size == PREVIEW else 12)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.disposition = disposition
            streams.append(stream)
        for stream, (size, _) in zip(streams, tracks, strict=True):
            rate = 1 if size == PREVIEW else 12
            for number in range(2 * rate):
                frame = av.VideoFrame.from_ndarray(painted(number, size), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, rate)
                file.mux(stream.encode(frame))
            file.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "tracks", "chosen"),
    [
        ("a.mp4", [(PREVIEW, NONE), (SMALL, DEFAULT)], 1),
        ("a.mkv", [(PREVIEW, NONE), (SMALL, DEFAULT)], 1),
        ("a.mp4", [(LARGE, NONE), (SMALL, DEFAULT)], 1),  # default before size
        ("a.mkv", [(PREVIEW, DEFAULT), (SMALL, DEFAULT), (LARGE, NONE)], 1),
        ("a.mkv", [(PREVIEW, DEFAULT), (LARGE, DEFAULT), (SMALL, DEFAULT)], 1),
        ("a.ts", [(PREVIEW, NONE), (LARGE, NONE), (SMALL, NONE)], 1),
        ("a.ts", [(SMALL, NONE), (SMALL, NONE)], 0),
    ],
)
def test_the_default_track_then_the_largest(tmp_path, name, tracks, chosen):
    path, size = write_tracks(tmp_path / name, *tracks), tracks[chosen][0]
    with open_container(str(path)) as container:
        assert main_video(container).index == chosen
    with VideoFile(path) as source:
        assert (source.info.width, source.info.height, source.info.frames) == (*size, 24)
        shown = [number_of(picture) for picture in pictures(source, [0, 13, 23])]
        assert shown == [0, 13, 23]
        assert [number_of(picture) for picture in source.in_order()] == list(range(24))


@pytest.mark.data
def test_a_preview_is_not_the_video(data_dir):
    path = data_dir.parent / "cases" / "preview_track_first" / "two_tracks.mp4"
    with VideoFile(path) as source:
        assert (source.info.frames, source.info.width, source.info.height) == (36, 96, 72)


@pytest.mark.data
def test_the_larger_of_two_default_tracks_is_taken_everywhere(data_dir):
    path = data_dir / "clips" / "nasa_13013.mp4"
    with av.open(str(path)) as container:
        tracks = [(s.width, s.height, s.disposition) for s in container.streams.video]
    assert tracks == [(320, 180, DEFAULT), (480, 270, DEFAULT)]
    size = {"frames": 390, "width": 480, "height": 270}
    with VideoFile(path) as source:
        assert {name: getattr(source.info, name) for name in size} == size
    job = ClipsJob(str(path), Preprocessing(frames=4), 1, 1, VideoLimits(60, 1000, 480 * 270))
    answer, _ = next(_frames(Message(facts_of(job), [])))  # of the service and of `label`
    assert {name: answer["info"][name] for name in size} == size
    content = {path.name: path.read_bytes()}
    with web_server(content) as address:
        for live in (str(path), f"http://{address}/{path.name}"):
            source = open_live(live, connection=Connection(retries=0))
            picture = next(iter(source.frames(lambda: False))).picture
            source.close()
            assert picture.shape == (270, 480, 3)
