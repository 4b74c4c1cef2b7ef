"""The how-to "train in a loop of your own": its programs on a tiny network."""

import pytest

import kinema

from .pages import Page

PAGE = Page("docs/howto/own_loop.md")
SMALL = (
    ("short_side_px=256, crop_px=224", "short_side_px=40, crop_px=32"),
    ("frames=8", "frames=4"),
    ("tsm_resnet18", "tsm_test_resnet"),
    ("range(10)", "range(2)"),
    ("max_epochs=10", "max_epochs=2, accelerator='cpu', enable_progress_bar=False"),
    ("batch_size=8", "batch_size=3"),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "package", "run"),
    [(0, "torch", "own"), (1, "lightning", "lightning"), (2, "accelerate", "accelerate")],
)
@pytest.mark.filterwarnings("default")  # Lightning warns of few workers, Accelerate of no GPU
def test_the_program_trains_a_network(tmp_path, monkeypatch, color_set, number, package, run):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install {package}")
    program = PAGE.blocks("python")[number]
    for text, small in SMALL:
        program = program.replace(text, small)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").symlink_to(color_set)
    (tmp_path / "train.csv").symlink_to(color_set / "val.csv")
    names = {"__name__": "own_loop"}
    exec(compile(program, PAGE.name, "exec"), names)
    recognizer = kinema.Recognizer.load(f"runs/{run}", device="cpu")
    assert recognizer.labels == names["rows"].class_names
    assert len(recognizer("videos/red/0.mp4").top) == 3
    fresh = kinema.create_model("tsm_test_resnet", classes=3, frames=4)
    counters = [v for k, v in recognizer.net.state_dict().items() if "num_batches_tracked" in k]
    assert len(counters) > 3
    assert all(steps == 4 for steps in counters)  # 2 epochs of 2 batches
    assert fresh.spec == recognizer.net.spec
