"""Names that clients and networks choose: they are shown, and lead nowhere."""

from pathlib import Path

import pytest

import kinema
from kinema.serve.uploads import UploadFolder, forget, shown_name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../../outside.mp4", "outside.mp4"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\outside.mp4", "outside.mp4"),
        ("..", ".."),
        ("a\r\nSet-Cookie: b.mp4", "aSet-Cookie: b.mp4"),
        ("a\0b.mp4", "ab.mp4"),
        ("\u202egpj.mp4", "gpj.mp4"),
        ("", "upload"),
        ("folder/", "upload"),
        ("x" * 5000, "x" * 200),
    ],
)
def test_a_name_is_shown_and_the_file_lies_elsewhere(name, shown):
    uploads = UploadFolder()
    try:
        assert uploads.folder.stat().st_mode & 0o777 == 0o700
        video, file = uploads.begin(name)
        file.close()
        assert shown_name(name) == video.name == shown
        assert video.path.parent == uploads.folder
        assert set(uploads.folder.iterdir()) == {video.path, uploads.folder / "lock"}
        assert video.path.stat().st_mode & 0o777 == 0o600
        forget(video)
        assert not video.path.exists()
    finally:
        uploads.close()
    assert not uploads.folder.exists()


def test_an_upload_with_a_path_for_a_name(server, color_set):
    data = (color_set / "red" / "0.mp4").read_bytes()
    with server.http as http:
        for name in ("../../outside.mp4", "/tmp/outside.mp4"):
            answer = http.post("/v1/predict", files={"file": (name, data)})
            assert (answer.status_code, answer.json()["file"]) == (200, "outside.mp4")
    folder = server.service.uploads.folder
    assert [path.name for path in folder.iterdir()] == ["lock"]
    assert not (folder.parent / "outside.mp4").exists()
    assert not (folder.parent.parent / "outside.mp4").exists()


def test_class_names_are_no_paths(tmp_path):
    labels = ("../../outside", "/etc/passwd", "<script>alert(1)</script>")
    net = kinema.create_model("tsm_test_resnet", classes=3, frames=4)
    how = kinema.Preprocessing(frames=4, short_side_px=40, crop_px=32)
    saved = kinema.save(net, tmp_path / "here" / "net", labels=labels, preprocessing=how)
    assert kinema.Recognizer.load(saved, device="cpu").labels == labels
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    names = ("README.md", "config.json", "model.safetensors")
    assert written == {Path("here/net") / name for name in names}
