"""Fetching published files from a real server that cuts, stalls, redirects and lies."""

import dataclasses
import hashlib
import multiprocessing
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from kinema.errors import FetchError, OptionError, OutputError
from kinema.models.published.catalog import PublishedNetwork, find_published
from kinema.models.published.download import Patience
from kinema.models.published.fetch import adopt, fetch, published_home

from ....file_server import FileServer

DATA = random.Random(0).randbytes(1_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
FILE = "/models/tsm.pth"
HASTY = Patience(silence_s=0.3, attempts=3, pause_s=0.01)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    for name in ("KINEMA_OFFLINE", "KINEMA_MIRROR", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("KINEMA_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "published"


@pytest.fixture
def server():
    with FileServer({FILE: DATA}) as running:
        yield running


def entry(*urls: str, sha256: str = SHA256[:8]) -> PublishedNetwork:
    known = find_published("tsm_resnet50:kinetics400-8f-50e")
    return dataclasses.replace(known, urls=urls, sha256=sha256)


def test_a_file_is_fetched_once_and_kept_under_its_hash(server, home):
    seen = []
    network = entry(server.url + FILE)
    fetched = fetch(network, progress=lambda done, total: seen.append((done, total)))
    assert fetched.path == home / "files" / f"{SHA256}.pth"
    assert fetched.path.read_bytes() == DATA
    assert fetched.sha256 == SHA256
    assert seen[-1] == (len(DATA), len(DATA))
    assert seen == sorted(seen)
    assert fetch(network) == fetched
    assert len(server.requests) == 1
    assert fetch(entry(server.url + FILE, sha256=SHA256)) == fetched  # known in full
    assert sorted(file.suffix for file in (home / "files").iterdir()) == [".lock", ".pth"]


def test_a_cut_in_the_middle_goes_on_with_the_rest(server):
    server.cuts = [300_000, 200_000]
    assert fetch(entry(server.url + FILE), patience=HASTY).path.read_bytes() == DATA
    assert [r.range for r in server.requests] == [None, "bytes=300000-", "bytes=500000-"]


def test_a_stalled_answer_is_given_up_and_goes_on(server):
    server.stalls_s = [5.0]
    assert fetch(entry(server.url + FILE), patience=HASTY).path.read_bytes() == DATA
    assert server.requests[1].range == "bytes=500000-"


def test_an_interrupted_fetch_goes_on_in_the_next_process(server, home):
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > 200_000:
            raise StopError

    with pytest.raises(StopError):
        fetch(entry(server.url + FILE), progress=stop)
    part = home / "files" / f"{SHA256[:8]}.part"
    there = part.stat().st_size
    assert 0 < there < len(DATA)
    assert fetch(entry(server.url + FILE)).path.read_bytes() == DATA
    assert server.requests[1].range == f"bytes={there}-"
    assert not part.exists()


def test_a_server_without_ranges_sends_all_again(server):
    server.takes_ranges, server.cuts = False, [300_000]
    assert fetch(entry(server.url + FILE), patience=HASTY).path.read_bytes() == DATA


def test_a_server_that_states_no_length(server):
    server.states_length = False
    seen = []
    fetched = fetch(entry(server.url + FILE), progress=lambda *numbers: seen.append(numbers))
    assert fetched.path.read_bytes() == DATA
    assert seen[-1] == (len(DATA), 0)


def test_a_partial_file_of_another_file_is_started_again(server, home):
    for beginning in (b"x" * 1000, b"x" * len(DATA), b"x" * (len(DATA) + 5)):
        (home / "files").mkdir(parents=True, exist_ok=True)
        (home / "files" / f"{SHA256[:8]}.part").write_bytes(beginning)
        fetched = fetch(entry(server.url + FILE), patience=HASTY)
        assert fetched.path.read_bytes() == DATA
        fetched.path.unlink()


def test_a_partial_file_that_is_complete_needs_no_byte(server, home):
    (home / "files").mkdir(parents=True)
    (home / "files" / f"{SHA256[:8]}.part").write_bytes(DATA)
    assert fetch(entry(server.url + FILE)).path.read_bytes() == DATA


def test_a_wrong_hash_is_an_error_with_both_values(server, home):
    network = entry(server.url + FILE, sha256="0123abcd")
    with pytest.raises(FetchError) as caught:
        fetch(network, patience=HASTY)
    message = str(caught.value)
    assert f"its SHA-256 is {SHA256}, but that of {network.id} begins with 0123abcd" in message
    assert "kinema fetch tsm_resnet50:kinetics400-8f-50e --file FILE" in message
    assert [file.suffix for file in (home / "files").iterdir()] == [".lock"]


def test_a_file_that_does_not_exist(server):
    with pytest.raises(FetchError, match=r"/none\.pth: HTTP status 404 \(Not Found\)\. Download"):
        fetch(entry(f"{server.url}/none.pth"))
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again_and_then_given_up(server):
    server.statuses = [503, 500]
    assert fetch(entry(server.url + FILE), patience=HASTY).path.read_bytes() == DATA
    network = dataclasses.replace(entry(server.url + FILE), sha256="ffffffff")
    server.statuses = [503] * 3
    with pytest.raises(FetchError, match=r"tsm\.pth: HTTP status 503 \(Service Unavailable\)\."):
        fetch(network, patience=HASTY)


def test_no_server_at_all():
    with pytest.raises(FetchError, match=r"http://127\.0\.0\.1:9/x\.pth: .*refused"):
        fetch(entry("http://127.0.0.1:9/x.pth"))


def test_the_second_address_is_tried(server):
    network = entry(f"{server.url}/none.pth", server.url + FILE)
    assert fetch(network).path.read_bytes() == DATA


def test_redirects_are_followed_and_keep_the_range(server):
    server.moved = {"/latest": f"{server.url}{FILE}?signed=1"}
    server.cuts = [300_000]
    assert fetch(entry(f"{server.url}/latest"), patience=HASTY).path.read_bytes() == DATA
    assert server.requests[-1].range == "bytes=300000-"


def test_redirects_to_files_are_refused(server, tmp_path):
    (tmp_path / "secret").write_bytes(DATA)
    server.moved = {"/latest": (tmp_path / "secret").as_uri()}
    with pytest.raises(FetchError, match=r"Redirection to url 'file:.*secret' is not allowed"):
        fetch(entry(f"{server.url}/latest"))


@pytest.fixture
def certificate(tmp_path, monkeypatch) -> Path:
    """Certificate of 127.0.0.1 with its key, which this process trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    file = tmp_path / "server.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
    command = ["openssl", *words.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", file, "-out", file], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return file


def test_https_must_stay_https(server, certificate, monkeypatch):
    with FileServer({FILE: DATA}, certificate=certificate) as safe:
        safe.moved = {"/a": f"{safe.url}{FILE}", "/b": f"{server.url}{FILE}"}
        with pytest.raises(FetchError, match=r"/b: redirects to http://.*, which is not encrypted"):
            fetch(entry(f"{safe.url}/b"))
        assert fetch(entry(f"{safe.url}/a")).path.read_bytes() == DATA
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(FetchError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(entry(safe.url + FILE, sha256="ffff"))


def test_a_web_page_is_not_a_file(server):
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(FetchError, match="a web page, not a file"):
        fetch(entry(server.url + FILE, sha256=""))


def test_offline_uses_the_cache_and_says_how_to_fill_it(server, home, monkeypatch):
    network = entry(server.url + FILE)
    monkeypatch.setenv("KINEMA_OFFLINE", "1")
    with pytest.raises(FetchError) as caught:
        fetch(network)
    assert str(caught.value) == (
        f"{network.id} is not in the cache ({home}), and KINEMA_OFFLINE forbids to fetch it. "
        f"Download {server.url}{FILE} with any program, then: kinema fetch {network.id} "
        f"--file FILE (its SHA-256 begins with {SHA256[:8]})"
    )
    assert server.requests == []
    monkeypatch.setenv("KINEMA_OFFLINE", "0")
    fetched = fetch(network)
    monkeypatch.setenv("KINEMA_OFFLINE", "1")
    assert fetch(network) == fetched


def test_a_mirror_comes_first_and_may_be_wrong(server, monkeypatch):
    with FileServer({"/kinema/tsm.pth": DATA}) as mirror:
        monkeypatch.setenv("KINEMA_MIRROR", f"{mirror.url}/kinema/")
        fetched = fetch(entry(server.url + FILE))
        assert ([r.path for r in mirror.requests], server.requests) == (["/kinema/tsm.pth"], [])
        for files in ({}, {"/kinema/tsm.pth": b"other"}):
            fetched.path.unlink()
            mirror.files = files
            assert fetch(entry(server.url + FILE), patience=HASTY).path.read_bytes() == DATA
    assert len(server.requests) == 2
    monkeypatch.setenv("KINEMA_MIRROR", "/mnt/files")
    fetched.path.unlink()
    with pytest.raises(OptionError, match="KINEMA_MIRROR must be an http:// or https:// address"):
        fetch(entry(server.url + FILE))


def test_proxies_of_the_environment_are_asked(server, monkeypatch):
    # A proxy gets the whole address as the path.
    server.files["http://files.example/tsm.pth"] = DATA
    monkeypatch.setenv("http_proxy", server.url)
    assert fetch(entry("http://files.example/tsm.pth")).path.read_bytes() == DATA


def test_a_damaged_file_in_the_cache_is_fetched_again(server, caplog):
    fetched = fetch(entry(server.url + FILE))
    fetched.path.write_bytes(DATA[:-1])
    assert fetch(entry(server.url + FILE)).path.read_bytes() == DATA
    assert "is damaged: it is fetched again" in caplog.text


def test_without_a_hash_only_the_same_file_goes_on(server, caplog, home):
    network = entry(server.url + FILE, sha256="")
    server.cuts = [300_000]
    fetched = fetch(network, patience=HASTY)
    assert fetched.sha256 == SHA256
    assert fetched.path.name.endswith(f"-{SHA256}.pth")
    assert "states no hash" in caplog.text
    assert (server.requests[1].range, server.requests[1].if_range) == (
        "bytes=300000-",
        server.etag(DATA),
    )
    assert fetch(network) == fetched
    assert len(server.requests) == 2
    # Nothing tells the versions apart: it starts again, also in a later process.
    fetched.path.unlink()
    server.etag, server.cuts, server.requests = None, [300_000], []
    assert fetch(network, patience=HASTY).path.read_bytes() == DATA
    assert [r.range for r in server.requests] == [None, None]


def test_manual_entries_say_where_and_how(tmp_path, home):
    network = find_published("gst_resnet50:something_v2")
    with pytest.raises(FetchError) as caught:
        fetch(network)
    assert str(caught.value) == (
        "gst_resnet50:something_v2-8f-authors must be downloaded by hand: its publisher offers it "
        "behind a web page. Download https://drive.google.com/file/d/"
        "18xiD9C2GS0YcdrAzTUbW7ylv6XbrWkdS with any program, then: kinema fetch "
        "gst_resnet50:something_v2-8f-authors --file FILE"
    )
    (tmp_path / "gst.pth").write_bytes(DATA)
    fetched = adopt(network, tmp_path / "gst.pth")
    assert fetch(network) == fetched
    assert fetched.path.read_bytes() == DATA


def test_a_file_of_the_user_must_have_the_hash(tmp_path, home):
    network = entry("https://nowhere.invalid/tsm.pth")
    (tmp_path / "mine.pth").write_bytes(b"other")
    with pytest.raises(FetchError, match=r"mine\.pth: wrong file: its SHA-256 is d9298a10"):
        adopt(network, tmp_path / "mine.pth")
    assert (tmp_path / "mine.pth").exists()
    with pytest.raises(FetchError, match=r"none\.pth does not exist\. Download https:"):
        adopt(network, tmp_path / "none.pth")
    (tmp_path / "mine.pth").write_bytes(DATA)
    assert adopt(network, tmp_path / "mine.pth").path.name == f"{SHA256}.pth"


def test_a_disk_without_room_says_so(server, monkeypatch):
    class Huge(bytes):
        def __len__(self) -> int:
            return 1 << 60

    server.files["/huge.pth"] = Huge(b"x")
    with pytest.raises(OutputError, match=r"it needs another 1152921504607 MB, its disk has \d+"):
        fetch(entry(f"{server.url}/huge.pth"))


def test_a_folder_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KINEMA_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot be written: "):
        fetch(entry(server.url + FILE))


def test_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("KINEMA_HOME", "~/kinema")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert published_home() == tmp_path / "kinema" / "published"


def _fetch_in_process(url: str) -> str:
    return str(fetch(entry(url)).path)


def test_the_home_folder_stays_private(server, tmp_path):
    old = os.umask(0o002)
    try:
        fetch(entry(server.url + FILE))
    finally:
        os.umask(old)
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_two_processes_fetch_a_file_once(server):
    server.stalls_s = [0.5]
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        paths = pool.map(_fetch_in_process, [server.url + FILE] * 2, chunksize=1)
    assert paths[0] == paths[1]
    assert Path(paths[0]).read_bytes() == DATA
    assert len(server.requests) == 1
