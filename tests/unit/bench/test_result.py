"""The command that a measurement keeps."""

import pytest

from kinema.bench.result import command_of


@pytest.mark.parametrize(
    ("program", "start"),
    [("bin/kinema", "kinema bench"), ("benchmarks/serve.py", "python -m benchmarks.serve bench")],
)
def test_the_command_names_no_folder_of_this_machine(tmp_path, program, start):
    words = ["bench", "video", str(tmp_path / "a clip.mp4"), "--out", "results/video.json"]
    command = command_of([str(tmp_path / program), *words])
    assert command == f"{start} video 'a clip.mp4' --out results/video.json"
