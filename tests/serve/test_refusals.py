"""What the server does not do: every limit has its status and says what came and what is wanted."""

import io
import socket
from pathlib import Path
from urllib.parse import urlsplit

import av
import pytest
from PIL import Image

from .running import wait_until, write_video

# What `curl --data-binary` says of any body.
CURL = {"content-type": "application/x-www-form-urlencoded"}


def post(server, data: bytes | Path, name: str = "clip.mp4", url: str = "/v1/predict", **fields):
    body = data if isinstance(data, bytes) else data.read_bytes()
    with server.http as http:
        return http.post(url, files={"file": (name, body)}, data=fields)


def check(answer, status: int, code: str, *parts: str) -> dict:
    document = answer.json()
    assert (answer.status_code, document["error"]) == (status, code), document
    assert set(document) == {"error", "message", "file"}
    for part in parts:
        assert part in document["message"]
    assert "/tmp" not in document["message"]
    return document


@pytest.fixture
def clip(color_set) -> Path:
    return color_set / "red" / "0.mp4"


def test_a_broken_file_names_itself_and_the_reason(server, clip):
    whole = clip.read_bytes()
    for data, reason in (
        (b"", "is empty (0 bytes)"),
        (b"hello " * 100, "it is damaged or not a video"),
        (whole[: len(whole) // 2], "cannot be read"),
    ):
        document = check(post(server, data, "holiday.mp4"), 422, "unreadable", reason)
        assert document["file"] == "holiday.mp4"
        assert "holiday.mp4" in document["message"]
    assert post(server, clip).status_code == 200


def test_a_list_of_other_files_reads_none_of_them(server, tmp_path):
    """FFmpeg itself opens the script, as the first lines show."""
    video = write_video(tmp_path / "secret.ts")
    script = tmp_path / "script.mp4"
    script.write_text("ffconcat version 1.0\nfile secret.ts\n", encoding="utf-8")
    with av.open(str(script)) as opened:
        assert opened.format.name == "concat"
    absolute = f"ffconcat version 1.0\nfile {video}\n"
    playlist = (
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n"
        f"{video}\n#EXT-X-ENDLIST\n"
    )
    dash = '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>'
    for text, name in (
        (script.read_text("utf-8"), "script.mp4"),
        (absolute, "absolute.mp4"),
        (playlist, "playlist.mp4"),
        (playlist, "playlist.m3u8"),
        (dash, "manifest.mp4"),
    ):
        document = check(post(server, text.encode(), name), 422, "unreadable", name)
        assert "secret" not in document["message"]
    allowed = check(post(server, script), 422, "unreadable", "lists of other files")
    assert "accepted containers (mov" in allowed["message"]


def test_limits_of_a_video(server, tmp_path):
    long = write_video(tmp_path / "long.mp4", frames=40)
    check(post(server, long), 413, "too_long", "clip.mp4 lasts 3.3 s", "limit of 3 s")
    many = write_video(tmp_path / "many.mp4", frames=61, rate=60)
    check(post(server, many), 413, "too_many_frames", "61 frames", "limit of 60")
    large = write_video(tmp_path / "large.mp4", frames=2, size=(112, 96))
    check(post(server, large), 413, "too_many_pixels", "112 x 96", "limit of 10000")


def test_a_header_that_claims_a_giant_frame(server):
    """Nothing is decoded or allocated for it."""
    pictures = [Image.new("P", (32, 32), color) for color in (1, 2, 3)]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:])
    data = bytearray(file.getvalue())
    assert post(server, bytes(data), "small.gif").status_code == 200
    data[6:10] = (8000).to_bytes(2, "little") * 2
    answer = post(server, bytes(data), "giant.gif")
    check(answer, 413, "too_many_pixels", "8000 x 8000", "limit of 10000")
    data[6:10] = (16384).to_bytes(2, "little") * 2  # FFmpeg itself refuses such a size
    check(post(server, bytes(data), "giant.gif"), 422, "unreadable", "giant.gif")


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_stream_that_grows_after_a_small_header(server, tmp_path, codec):
    parts = [
        write_video(tmp_path / f"{width}.ts", size=(width, height), rate=25, codec=codec)
        for width, height in ((64, 48), (128, 96))
    ]
    grown = tmp_path / "grown.ts"
    grown.write_bytes(b"".join(part.read_bytes() for part in parts))
    with av.open(str(grown)) as opened:
        assert (opened.streams.video[0].width, opened.streams.video[0].height) == (64, 48)
    for clips in (1, 3):
        answer = post(server, grown, clips=clips)
        check(answer, 413, "too_many_pixels", "A frame has 128 x 96 pixels", "limit of 10000")
    job = post(server, grown, url="/v1/timeline").json()["job"]
    with server.http as http:
        url = f"/v1/timeline/{job}"
        wait_until(lambda: http.get(url).json()["state"] not in ("waiting", "running"))
        assert http.get(url).json()["error"]["error"] == "too_many_pixels"
    assert post(server, parts[0]).status_code == 200


def test_too_many_bytes(server, tmp_path):
    check(post(server, bytes(250_000)), 413, "too_many_bytes", "200000")
    document = check(
        post(server, bytes(450_000), url="/v1/timeline"), 413, "too_many_bytes", "400000"
    )
    assert document["file"] is None

    def parts():
        for _ in range(300):
            yield bytes(1000)

    query = {"width": 10, "height": 10}
    with server.http as http:  # the length is not told in advance
        answer = http.post("/v1/predict/frames", params=query, content=parts())
        check(answer, 413, "too_many_bytes", "200000")
        assert http.get("/healthz").json() == {"status": "alive"}


def test_a_client_that_asks_first_sends_nothing(server):
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as client:
        client.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 999999999\r\n\r\n"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def test_too_many_requests_get_a_503_with_retry_after(server, clip):
    place = urlsplit(server.url)
    head = (
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
    )
    clients = []
    try:
        for _ in range(8):
            clients.append(socket.create_connection((place.hostname, place.port), timeout=10))
            clients[-1].sendall(head)
        wait_until(lambda: server.count("requests_in_flight") == 8)
        answer = post(server, clip)
        check(answer, 503, "too_many_requests", "8 requests")
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        for client in clients:
            client.close()
    wait_until(lambda: server.count("requests_in_flight") == 0)
    assert post(server, clip).status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "code", "part"),
    [
        ({"clips": 0}, 422, "invalid", "clips: Input should be greater than or equal to 1"),
        ({"clips": "many"}, 422, "invalid", "clips: "),
        ({"crops": 2}, 422, "invalid", "crops: "),
        ({"clip": 3}, 422, "invalid", "There is no field 'clip'. Did you mean 'clips'?"),
        ({"clips": 31}, 413, "too_many_views", "31 views, more than the limit of 30"),
        ({"model": "cauzal"}, 404, "no_such_model", "Did you mean 'causal'?"),
        ({"path": "red/0.mp4"}, 422, "source", "one of both"),
    ],
)
def test_wrong_fields(server, clip, fields, status, code, part):
    check(post(server, clip, **fields), status, code, part)


def test_paths_outside_of_the_allowed_folder(server, color_set, tmp_path):
    link = color_set / "link.mp4"
    link.symlink_to(write_video(tmp_path / "outside.mp4"))
    try:
        with server.http as http:
            for path in ("../x.mp4", "/etc/passwd", "link.mp4", "red/../../x"):
                answer = http.post("/v1/predict", files={"path": (None, path)})
                check(answer, 403, "path_not_allowed", "not below the allowed folder")
            answer = http.post("/v1/predict", files={"path": (None, "red/9.mp4")})
            check(answer, 404, "no_such_file", "red/9.mp4 does not exist")
            answer = http.post("/v1/predict", content=b"\0\0 ftyp", headers=CURL)
            check(answer, 422, "invalid", "curl -F file=@video.mp4")
            answer = http.post("/v1/predict", files={"x": (None, "y")})
            check(answer, 422, "invalid", "There is no field 'x'. Valid are: ")
            answer = http.post("/v1/predict", files={"path": (None, "a\0b")})
            check(answer, 404, "no_such_file")
    finally:
        link.unlink()


def test_raw_frames_that_do_not_fit(server):
    with server.http as http:

        def send(count: int, **query):
            return http.post("/v1/predict/frames", params=query, content=bytes(count))

        check(send(100, width=10, height=10), 422, "frame_size", "300 bytes each", "has 100")
        check(send(0, width=10, height=10), 422, "frame_size", "has 0")
        check(send(3, width=1000, height=11), 413, "too_many_pixels", "1000 x 11")
        # With the short side that the network expects the other one grows, too.
        check(send(3, width=100, height=1), 413, "too_many_pixels", "100 x 1 has 100 pixels, and")
        check(send(61 * 3, width=1, height=1), 413, "too_many_frames", "61 frames")
        check(send(3, width=1), 422, "invalid", "height: Field required")


def test_a_client_that_leaves_is_no_fault_of_the_server(server):
    place = urlsplit(server.url)
    labels = {"route": "/v1/predict/frames", "status": "400"}
    before = server.count("requests_total", **labels)
    with socket.create_connection((place.hostname, place.port), timeout=10) as client:
        head = "POST /v1/predict/frames?width=10&height=10 HTTP/1.1\r\nHost: localhost\r\n"
        client.sendall(f"{head}Content-Length: 300\r\n\r\n".encode() + bytes(100))
    wait_until(lambda: server.count("requests_total", **labels) == before + 1)


def test_unknown_addresses(server):
    with server.http as http:
        check(http.get("/v2"), 404, "not_found", "GET /v2")
        check(http.get("/v1/predict"), 405, "method_not_allowed")
        check(http.get("/v1/timeline/abc"), 404, "no_such_job", "'abc'")


def test_pages_of_other_sites_may_not_use_it(server, clip):
    with server.http as http:
        foreign = {"Origin": "https://evil.example"}
        answer = http.post("/v1/predict", files={"file": b"x"}, headers=foreign)
        check(answer, 403, "origin", "https://evil.example")
        own = {"Origin": server.url}
        files = {"file": ("a.mp4", clip.read_bytes())}
        assert http.post("/v1/predict", files=files, headers=own).status_code == 200
        answer = http.get("/v1/models", headers=foreign)
        assert "access-control-allow-origin" not in answer.headers
