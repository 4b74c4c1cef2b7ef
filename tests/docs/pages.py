"""Parses documentation pages and runs the code in them; shared by the tests of all pages."""

import re
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from kinema.cli.main import app
from kinema.synthetic.motion_set import MotionSettings, render_motion_set

REPOSITORY = Path(__file__).resolve().parents[2]

# (text of the page, replacement in the test): pages use real data and long training.
Swaps = Iterable[tuple[str, str]]

# Makes recipes/own_videos.toml, with ImageNet weights and large frames, fast enough for a test.
SMALL_RECIPE = (
    ("weights = ", "# weights = "),
    ('backbone = "resnet18"', 'backbone = "test_resnet"'),
    ("short_side_px = 256", "short_side_px = 32"),
    ("crop_px = 224", "crop_px = 32"),
    ("epochs = 25", "epochs = 2"),
    ("workers = 2", "workers = 0"),
    ("batch_size = 16", "batch_size = 2"),
    ("clip_norm = 20.0", "clip_norm = 20.0\n\n[evaluation]\nbatch_views = 2"),
)


@dataclass(frozen=True)
class Page:
    """Markdown file, with its path relative to the repository."""

    name: str

    @property
    def text(self) -> str:
        return (REPOSITORY / self.name).read_text(encoding="utf-8")

    def blocks(self, language: str) -> list[str]:
        """Code blocks of one language, in order."""
        found = rf"^```{re.escape(language)}\n(.*?)^```$"
        return re.findall(found, self.text, flags=re.DOTALL | re.MULTILINE)

    @property
    def lines(self) -> list[str]:
        """All shell commands in order, each on one line, without comments."""
        text = "\n".join(self.blocks("sh")).replace("\\\n", " ")
        bare = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in text.splitlines())
        return [line for line in bare if line]

    @property
    def commands(self) -> list[str]:
        """Shell commands that run `kinema`."""
        return [line for line in self.lines if line.startswith("kinema ")]

    @property
    def table_commands(self) -> dict[str, list[tuple[str, str, str]]]:
        """Of each section with them, the rows that end in a command: the three columns."""
        sections = re.split(r"^## (.+)$", self.text, flags=re.MULTILINE)[1:]
        row = r"^\| (.+?) \| (.+?) \| `(kinema .+?)` \|$"
        found = {
            name: re.findall(row, text, flags=re.MULTILINE)
            for name, text in zip(sections[::2], sections[1::2], strict=True)
        }
        return {name: rows for name, rows in found.items() if rows}

    def run_python(self, number: int, names: dict[str, Any] | None = None) -> dict[str, Any]:
        """Runs a Python block, by number; returns its namespace."""
        names = {} if names is None else names
        exec(compile(self.blocks("python")[number], self.name, "exec"), names)
        return names

    def broken_links(self) -> list[str]:
        """Relative links to files that do not exist."""
        folder = (REPOSITORY / self.name).parent
        links = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", self.text)
        return [link for link in links if not (folder / link).exists()]


def run_kinema(command: str, swaps: Swaps = ()) -> str:
    """Runs one line `kinema ...` in this process and returns its stdout; a failure is an error."""
    for said, taken in swaps:
        command = command.replace(said, taken)
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, (command, result.output, result.exception)
    return result.stdout


def swapped(text: str, swaps: Swaps) -> str:
    """Text with all replacements; each must match."""
    for said, taken in swaps:
        assert said in text, f"{said!r} is not in the text any more"
        text = text.replace(said, taken)
    return text


def small_recipe(folder: Path) -> None:
    """Writes a small recipes/own_videos.toml into the folder."""
    text = (REPOSITORY / "src/kinema/recipes/own_videos.toml").read_text(encoding="utf-8")
    target = folder / "recipes/own_videos.toml"
    target.parent.mkdir()
    target.write_text(swapped(text, SMALL_RECIPE), encoding="utf-8")


def videos_in_class_folders(folder: Path, *, classes: int = 2) -> None:
    """Writes videos/train/CLASS/ with two and videos/val/CLASS/ with one video per class."""
    settings = MotionSettings(train_per_class=2, val_per_class=1, size_px=32)
    motion = render_motion_set(folder / "motion", settings=settings, workers=0)
    for split in ("train", "val"):
        for source in sorted((motion / "videos").iterdir())[:classes]:
            target = folder / "videos" / split / source.name
            target.mkdir(parents=True)
            for video in source.glob(f"{split}_*.mp4"):
                video.rename(target / video.name)


def trained_on_colors(folder: Path, checkpoint: Path, colors: Path) -> None:
    """Creates the files that most pages assume in the folder.

    runs/first/best is a network of three classes; videos/, videos/train/ and videos/val/ hold their
    class folders, and train.csv and video.mp4 are of them.
    """
    shutil.copytree(checkpoint, folder / "runs/first/best")
    for name in ("videos", "videos/val", "videos/train"):
        shutil.copytree(colors, folder / name, dirs_exist_ok=True)
    shutil.copy(colors / "val.csv", folder / "train.csv")
    shutil.copy(colors / "red/0.mp4", folder / "video.mp4")
    for name in ("train", "val"):
        (folder / "videos" / name / "val.csv").unlink()
