"""Choice of a video encoder."""

import av

from kinema.system.encoders import installed_encoder


def test_the_first_installed_encoder_is_taken(monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"libvpx", "mpeg4"})
    assert installed_encoder(("libx264", "mpeg4", "libvpx")) == "mpeg4"
    assert installed_encoder({"libvpx": {}, "mpeg4": {}}) == "libvpx"
