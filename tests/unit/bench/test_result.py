"""What a measurement tells of how it was made."""

from kinema.bench.result import command_of


def test_the_command_names_no_folder_of_this_machine(tmp_path):
    words = ["bench", "video", str(tmp_path / "a clip.mp4"), "--out", "results/video.json"]
    assert command_of(words) == "kinema bench video 'a clip.mp4' --out results/video.json"
