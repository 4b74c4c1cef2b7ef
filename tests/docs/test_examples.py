"""The programs and the notebook in examples/ run; tests/unit/export runs run_exported.py."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kinema

from ..causal import save_causal
from .pages import REPOSITORY, small_recipe, videos_in_class_folders

EXAMPLES = REPOSITORY / "examples"


def run(name: str, *words: str) -> str:
    """Runs the example and returns its stdout."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_train_and_ask(tmp_path):
    small_recipe(tmp_path)
    videos_in_class_folders(tmp_path)
    video = next((tmp_path / "videos" / "val").rglob("*.mp4"))
    out = run("train_and_ask.py", "runs/first", str(video), "train.epochs=1")
    assert "% of the validation videos are correct" in out
    assert Path("runs/first/best/model.safetensors").is_file()


@pytest.mark.slow
def test_compare_modules():
    out = run("compare_modules.py")
    assert "tsm         23.86 M parameters   32.70 G" in out
    assert out.count("\n") == 8


@pytest.mark.slow
def test_watch(tmp_path, color_set):
    live = save_causal(tmp_path / "live")
    assert "frames" in run("watch.py", str(live), str(color_set / "red" / "0.mp4"))


@pytest.mark.slow
def test_cut_highlights(checkpoint, color_set):
    # The example cuts with this program; kinema itself does not need it. CI installs it.
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed: apt-get install ffmpeg")
    video = color_set / "red" / "0.mp4"
    name = kinema.Recognizer.load(checkpoint).timeline(video).segments[0].name
    assert "highlights/0.mp4: 0.00 s to" in run(
        "cut_highlights.py", str(checkpoint), str(video), name, "highlights"
    )
    assert Path("highlights/0.mp4").stat().st_size > 0


@pytest.mark.slow
def test_nearest_clips(checkpoint, color_set):
    pytest.importorskip("usearch", reason="usearch is not installed: pip install usearch")
    query = color_set / "green" / "0.mp4"
    lines = run("nearest_clips.py", str(checkpoint), str(color_set), str(query)).splitlines()
    assert lines[0] == f"1.000 {query}"
    assert lines[1].endswith(str(color_set / "green" / "1.mp4"))
    assert len(lines) == 5


@pytest.mark.slow
def test_find_label_errors(tmp_path, checkpoint, color_set):
    pytest.importorskip("cleanlab", reason="cleanlab is not installed: pip install cleanlab")
    rows = ["path,label"]
    for number, source in enumerate(4 * sorted(color_set.rglob("*.mp4"))):
        shutil.copy(source, tmp_path / f"{number}.mp4")
        rows.append(f"{number}.mp4,{source.parent.name}")
    assert rows[8] == "7.mp4,blue"
    rows[8] = "7.mp4,red"
    Path("train.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    words = (str(checkpoint), "train.csv", str(tmp_path), str(color_set / "red"))
    lines = run("find_label_errors.py", *words).splitlines()
    assert lines[0] == f"label red, probably blue: {tmp_path / '7.mp4'}"
    assert [line.startswith("label next (") for line in lines] == [False, True, True]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / "motion.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": tmp_path}}
    ).execute()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())
    )
    assert "tsn_resnet18: backwards the scores change by 0.00%" in printed
    assert "14 videos" in printed
