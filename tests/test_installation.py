"""Installing: the Makefile's commands, the words for extras, and packages that do not fit."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import kinema
from kinema.errors import InstallationError, missing_extra
from kinema.system.installation import naming_wrong_torchvision

ROOT = Path(__file__).parent.parent


def made(tmp_path: Path, *words: str, pythons: dict[str, int]) -> subprocess.CompletedProcess[str]:
    """Dry run of make where these programs are all Pythons, with their minor versions."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "make", "test", "echo", "touch"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    for name in ("python3.11", "python3", "python3.12", "python3.13", "python3.14", "python"):
        program = tools / name
        exit_code = int(pythons[name] < 11) if name in pythons else 127
        program.write_text(f"#!/bin/sh\nexit {exit_code}\n")
        program.chmod(0o755)
    return subprocess.run(
        ["make", "--dry-run", *words],
        cwd=tmp_path,
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("pythons", "wanted"),
    [
        ({"python3": 13, "python3.11": 11}, "python3.11"),
        ({"python3": 13}, "python3"),
        ({"python3": 10, "python3.12": 12}, "python3.12"),
        ({"python": 14}, "python"),
    ],
)
def test_any_python_from_3_11_on_will_do(tmp_path, pythons, wanted):
    assert f"|| {wanted} -m venv .venv\n" in made(tmp_path, "setup", pythons=pythons).stdout


def test_without_a_python_the_fix_is_named(tmp_path):
    answer = made(tmp_path, "setup", pythons={"python3": 10})
    assert answer.returncode == 2
    assert "No Python from 3.11 on was found: install one, or name it with PYTHON=" in answer.stderr


def test_the_sizes_are_said_and_pip_is_not_silent(tmp_path):
    lines = made(tmp_path, "quickstart", pythons={"python3": 11}).stdout
    assert "2.7 GB to fetch, 5.6 GB in .venv" in lines
    assert "--quiet" not in lines
    assert "--index-url" not in lines


def test_cpu_only_takes_both_packages_from_the_index_for_cpus(tmp_path):
    words = ("quickstart", "CPU=1")
    lines = made(tmp_path, *words, "CPU_INDEX=ADDRESS", pythons={"python3": 11}).stdout.splitlines()
    (torch,) = (number for number, line in enumerate(lines) if " torch " in line)
    assert lines[torch].endswith("constraints.txt torch torchvision --index-url ADDRESS")
    assert '--editable ".[train]"' in lines[torch + 1]
    assert "1.2 GB in .venv" in "".join(lines)


def test_cpu_only_without_an_index_names_the_fix(tmp_path):
    answer = made(tmp_path, "quickstart", "CPU=1", pythons={"python3": 11})
    assert answer.returncode == 2
    assert "CPU=1 needs CPU_INDEX=, the address of PyTorch's index for CPUs" in answer.stderr


def test_extras_are_installed_in_one_way():
    """By missing_extra in messages and by the same words in pages; the name is not published."""
    message = str(missing_extra("The service", "fastapi", "serve"))
    assert message == (
        "The service needs fastapi, which is not installed. In the folder of kinema run "
        'pip install ".[serve]".'
    )
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.py")]
    for page in (p for p in pages if p.name != "log.md"):
        text = page.read_text(encoding="utf-8")
        assert "pip install kinema" not in text, page
        assert "kinema[" not in text, page
        assert "-m pip install" not in text, page
        assert set(re.findall(r'pip install "\.\[(\w+)\]"', text)) <= set(extras), page
    for source in (ROOT / "src").rglob("*.py"):
        if source.name != "errors.py":
            assert 'install ".[' not in source.read_text(encoding="utf-8"), source


def test_the_citation_has_the_version_and_license_of_the_package():
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"version: {project['version']}" in lines
    assert f"license: {project['license']}" in lines
    assert kinema.__version__ == project["version"]


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="^other$"), naming_wrong_torchvision():
        raise RuntimeError("other")


@pytest.fixture
def wrong_torchvision(tmp_path) -> dict[str, str]:
    """Environment in which torchvision registers an operator that PyTorch does not have."""
    package = tmp_path / "torchvision"
    package.mkdir()
    # As torchvision/_meta_registrations.py does; the error is PyTorch's own.
    (package / "__init__.py").write_text(
        "import torch\n"
        'torch.library.register_fake("torchvision::nms")(lambda boxes, scores, limit: boxes)\n'
    )
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.slow
def test_torchvision_for_another_pytorch_is_one_line_with_the_fix(wrong_torchvision):
    command = [sys.executable, "-m", "kinema", "describe", "tsn_resnet18"]
    answer = subprocess.run(
        command, env=wrong_torchvision, capture_output=True, text=True, check=False
    )
    (line,) = answer.stderr.splitlines()
    assert answer.returncode == 1
    assert re.fullmatch(
        r"Error: torch \S+ and torchvision \S+ do not fit each other \(operator torchvision::nms "
        r"does not exist\)\. Install both together, from the same index: pip install "
        r"--force-reinstall torch torchvision",
        line,
    )
    code = (
        "import kinema\n"
        "try:\n    kinema.create_model\n"
        "except kinema.KinemaError as error:\n    print(type(error).__name__)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=wrong_torchvision,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stdout.strip() == InstallationError.__name__, answer.stderr
