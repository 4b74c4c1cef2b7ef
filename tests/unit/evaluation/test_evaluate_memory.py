"""The memory of an evaluation does not grow with the number of views."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys
from pathlib import Path
import kinema

folder, clips, crops = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
names = ("red", "green", "blue")
rows = kinema.read_annotations(Path("one.csv"), format="csv", root=folder, classes=names)
net = kinema.create_model("tsn_test_resnet", classes=3, frames=8)
how = kinema.Preprocessing(frames=8, short_side_px=512, crop_px=448)
dataset = kinema.VideoDataset(rows, folder, how)
kinema.evaluate(net, dataset, views=kinema.Views(clips=clips, crops=crops), batch_views=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_mib(folder, clips: int, crops: int) -> float:
    words = [sys.executable, "-c", CODE, str(folder), str(clips), str(crops)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.slow
def test_thirty_views_peak_where_six_do(color_set, tmp_path, monkeypatch):
    (tmp_path / "one.csv").write_text("path,label\nred/0.mp4,red\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    # One view is 18 MiB in float32: 24 more held at once would be 440 MiB.
    assert peak_mib(color_set, 10, 3) < peak_mib(color_set, 2, 3) + 100
