"""Videos at addresses: whole copies that are removed, and errors that name the address."""

import sys
import tempfile
from pathlib import Path

import fsspec
import pytest

from kinema.data.listing import list_remote
from kinema.errors import MissingExtraError, UnreadableVideoError
from kinema.video import remote
from kinema.video.decode import open_source
from kinema.video.remote import is_url, local_file, parent_url, url_in, without_secrets

from ...stores import GoogleFiles, s3_server, web_server
from ..conftest import write_video


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    video = write_video(tmp_path_factory.mktemp("sound") / "a.mp4").read_bytes()
    names = ("a.mp4", "deep/er/b c.mp4", "deep/.hidden/d.mp4", "video")
    return {**dict.fromkeys(names, video), "deep/notes.txt": b"no video", "empty.mp4": b""}


@pytest.fixture(scope="module")
def s3(files):
    with s3_server(files) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield "s3://videos"


@pytest.fixture(scope="module")
def gs(files):
    with web_server(files, GoogleFiles) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://{address}")
        yield "gs://videos"


@pytest.fixture(scope="module")
def web(files):
    with web_server(files) as address:
        yield f"http://{address}"


@pytest.fixture(autouse=True)
def copies(tmp_path, monkeypatch) -> Path:
    """The folder of temporary files; it is empty after every test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def frames_at(url: str) -> int:
    with local_file(url) as file, open_source(file) as source:
        return source.info.frames


@pytest.fixture
def root(request):
    return request.getfixturevalue(request.param)


STORES = pytest.mark.parametrize("root", ["s3", "gs"], indirect=True)
ALL = pytest.mark.parametrize("root", ["s3", "gs", "web"], indirect=True)


@pytest.mark.slow
@ALL
def test_a_video_is_copied_and_the_copy_removed(root, files, copies):
    for name in ("a.mp4", "deep/er/b c.mp4", "video"):
        url = url_in(root, name)
        with local_file(url) as file:
            assert Path(file).read_bytes() == files[name]
            assert Path(file).parent.parent == copies
        assert frames_at(url) == 30
        assert list_remote(url) == [url]


@pytest.mark.slow
@STORES
def test_a_folder_of_a_store_is_searched(root):
    for folder in (f"{root}/deep", f"{root}/deep/"):
        assert list_remote(folder) == [f"{root}/deep/er/b c.mp4"]
    with pytest.raises(UnreadableVideoError, match=f"{root}/none/ holds no videos"):
        list_remote(f"{root}/none/")


@pytest.mark.slow
@ALL
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.mp4", "cannot be read: it does not exist. Check the address."),
        ("empty.mp4", "is empty (0 bytes)."),
        ("deep/notes.txt", "cannot be read: it is damaged or not a video."),
    ],
)
def test_errors_name_the_address(root, name, reason):
    with pytest.raises(UnreadableVideoError) as caught:
        frames_at(f"{root}/{name}")
    assert str(caught.value) == f"{root}/{name} {reason}"


@pytest.mark.slow
def test_user_password_and_query_are_used_and_not_shown(web, copies):
    private = web.replace("://", "://me:secret@") + "/private"
    assert frames_at(f"{private}/a.mp4?signature=hidden") == 30
    bare = f"{web}/private/a.mp4"
    wrong = private.replace("secret", "wrong-word")
    for url in (f"{bare}?signature=hidden", f"{wrong}/a.mp4?signature=hidden"):
        with pytest.raises(UnreadableVideoError) as caught:
            frames_at(url)
        assert str(caught.value) == (
            f"{bare}?... cannot be read: access is refused. The address needs a user and "
            "password, or its signature has expired."
        )
    with pytest.raises(UnreadableVideoError) as caught:
        frames_at(f"{private}/deep/notes.txt?signature=hidden")
    assert str(caught.value).startswith(f"{web}/private/deep/notes.txt?... cannot be read: it is")


@pytest.mark.slow
def test_a_server_out_of_order_or_out_of_reach_is_named(web, s3, monkeypatch):
    with pytest.raises(
        UnreadableVideoError, match=r"/broken/a.mp4 cannot be read: the server answered 503\. Check"
    ):
        frames_at(f"{web}/broken/a.mp4")
    with pytest.raises(UnreadableVideoError) as caught:
        frames_at("http://me:secret@127.0.0.1:1/a.mp4?signature=hidden")
    assert "http://127.0.0.1:1/a.mp4?... cannot be read: cannot connect" in str(caught.value)
    assert "Check the network and the address." in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.slow
def test_s3_without_credentials_says_where_they_go(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setitem(fsspec.config.conf, "s3", {"default_cache_type": "bytes"})  # a new client
    with pytest.raises(
        UnreadableVideoError, match="access is refused. Give credentials as for the AWS"
    ):
        frames_at(f"{s3}/a.mp4")


@pytest.mark.slow
def test_a_copy_that_does_not_fit_is_not_begun(web, monkeypatch, copies):
    monkeypatch.setattr(
        remote.shutil, "disk_usage", lambda _: remote.shutil._ntuple_diskusage(9, 9, 9)
    )
    with pytest.raises(UnreadableVideoError) as caught:
        frames_at(f"{web}/a.mp4")
    assert f"its temporary copy does not fit into {copies}" in str(caught.value)
    assert "Name a larger folder in TMPDIR." in str(caught.value)


@pytest.mark.parametrize(
    ("url", "package"),
    [("s3://a/b.mp4", "s3fs"), ("gs://a/b.mp4", "gcsfs"), ("https://a/b.mp4", "aiohttp")],
)
def test_a_missing_client_names_the_extra(monkeypatch, url, package):
    # The name fsspec.registry is that of the dictionary, not of the module.
    loaded = sys.modules["fsspec.registry"]._registry
    monkeypatch.delitem(loaded, url.partition(":")[0], raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf'needs {package}, .*pip install "\.\[remote\]"'):
        frames_at(url)


def test_files_are_no_addresses(tmp_path):
    video = write_video(tmp_path / "a.mp4")
    for source in (video, str(video)):
        with local_file(source) as file:
            assert file is source
    assert not is_url(Path("s3://a/b.mp4"))
    assert not is_url("rtsp://a/b")
    assert is_url("HTTPS://a/b.mp4")


def test_parts_of_addresses():
    assert without_secrets("https://me:x@h:8/a/b.mp4?k=1#f") == "https://h:8/a/b.mp4?..."
    assert without_secrets("a/b?c.mp4") == "a/b?c.mp4"
    assert parent_url("s3://b/c/d.txt") == "s3://b/c"
    assert url_in("s3://b/c/", "d e#.mp4") == "s3://b/c/d e#.mp4"
    assert url_in("https://h", "d e#.mp4") == "https://h/d%20e%23.mp4"
