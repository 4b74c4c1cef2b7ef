"""The wheel and the source archive hold all that is needed, and run without the repository."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
TORCH_IS_IN = Path(torch.__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def said(*command: str | Path, cwd: Path) -> str:
    # Whatever would make the repository's own modules importable is left out.
    variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=cwd, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked(folder: str) -> set[str]:
    """What git keeps below a folder, as paths relative to it."""
    names = said("git", "ls-files", "-z", folder, cwd=ROOT).split("\0")
    return {name.removeprefix(f"{folder}/") for name in names if name}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    names = said("git", "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, names):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    build = (
        "import setuptools.build_meta as b, sys; getattr(b, 'build_' + sys.argv[1])(sys.argv[2])"
    )
    said(sys.executable, "-c", build, "sdist", folder, cwd=source)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    said(sys.executable, "-c", build, "wheel", folder, cwd=unpacked)
    (wheel,) = folder.glob("*.whl")
    return archive, wheel


def test_the_wheel_holds_every_file_of_the_package(archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archives[1]) as wheel:
        names = {n.removeprefix("kinema/") for n in wheel.namelist() if n.startswith("kinema/")}
    assert names == tracked("src/kinema")


def test_the_wheel_names_license_python_and_extras(archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archives[1]) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        lines = wheel.read(name).decode().splitlines()
        assert any(n.endswith("/licenses/LICENSE") for n in wheel.namelist())
    assert "License-Expression: Apache-2.0" in lines
    assert "Requires-Python: >=3.11" in lines
    extras = {"train", "export", "serve", "parquet", "ray", "remote", "hub", "nvdec", "docs"}
    extras |= {"dev", "all"}
    assert {line.split()[-1] for line in lines if line.startswith("Provides-Extra")} == extras


def test_it_runs_from_an_environment_that_holds_the_wheel_alone(
    archives: tuple[Path, Path], tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    said(python, "-m", "pip", "install", "--quiet", "--no-deps", archives[1], cwd=tmp_path)
    # The packages kinema needs come from where the tests have them; an editable kinema does not,
    # because the files that make it importable are only read in an environment's own folder.
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{TORCH_IS_IN}\n", encoding="utf-8")

    place = "import kinema, pathlib; print(pathlib.Path(kinema.__file__).parent)"
    assert Path(said(python, "-c", place, cwd=tmp_path).strip()) == site / "kinema"
    version = said(python, "-m", "kinema", "--version", cwd=tmp_path)
    assert version == said(environment / "bin" / "kinema", "--version", cwd=tmp_path)
    said(
        environment / "bin" / "kinema", "data", "synth", "motion", "--train", "1",
        "--val", "1", "--size", "32", cwd=tmp_path,
    )  # fmt: skip
    said(
        environment / "bin" / "kinema", "train", "recipes/quickstart.toml", "train.epochs=1",
        "schedule.warmup_epochs=0",
        "data.train=motion/train.csv", "data.val=motion/val.csv", "data.root=motion/videos",
        "data.classes=motion/classes.txt", "data.workers=0", "--out", "run", cwd=tmp_path,
    )  # fmt: skip
    assert (tmp_path / "run" / "best" / "model.safetensors").exists()
