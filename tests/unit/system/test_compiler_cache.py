"""Compiled code is loaded from folders that only the user can write to."""

import getpass
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch._inductor.config

from kinema import create_model, export
from kinema.errors import OptionError
from kinema.inference.runtime import Form, build_run
from kinema.system.compiler_cache import keep_compilers_private
from kinema.train.job import _runnable
from kinema.train.settings import TrainSettings

HEADERS = ("cpp_cache_precompile_headers", "aot_inductor.precompile_headers")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The cache folder; the environment is as timm's import leaves it."""
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRITON_CACHE_DIR", "restored afterwards")
    monkeypatch.delenv("TRITON_CACHE_DIR")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def default(folder, tmp_path, monkeypatch) -> Iterator[Path]:
    """PyTorch's own folder among the temporary files."""
    own = tmp_path / "tmp" / f"torchinductor_{getpass.getuser()}"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(own))
    with torch._inductor.config.patch(dict.fromkeys(HEADERS, True)):
        yield own


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_compilers_load_code_from_the_cache_folder(folder, default, monkeypatch):
    keep_compilers_private()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(folder / "inductor")
    assert os.environ["TRITON_CACHE_DIR"] == str(folder / "triton")
    assert mode(default) == 0o700
    assert all(getattr(torch._inductor.config, name) for name in HEADERS)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/own/choice")
    keep_compilers_private()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/own/choice"


def test_headers_that_others_may_have_written_are_not_compiled_in(default):
    default.mkdir()
    default.chmod(0o777)
    keep_compilers_private()
    assert not any(getattr(torch._inductor.config, name) for name in HEADERS)


def test_a_missing_compiler_is_named_before_anything_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    net = create_model("tsn_test_resnet", classes=2, frames=2).eval()
    tasks = {
        "train.compile": lambda: _runnable(net, TrainSettings(compile=True), torch.device("cpu")),
        "The format aoti": lambda: export(net, tmp_path / "a.aoti.pt2", size=32),
        "The runtime compiled": lambda: build_run(
            net, Form("compiled", "32"), torch.zeros(1, 2, 3, 32, 32)
        ),
    }
    for name, task in tasks.items():
        with pytest.raises(OptionError) as raised:
            task()
        assert str(raised.value) == (
            f"{name} needs a C++ compiler, and g++ was not found. Install g++, set CXX to another "
            "one, or do without."
        )


COMPILE = {
    "fast": """
import torch
from kinema.inference.runtime import Form, build_run
clips = torch.zeros(1, 2, 3, 32, 32)
build_run(net, Form("compiled", "32"), clips)(clips)
""",
    "export": "import kinema; kinema.export(net, OUT + '/a.aoti.pt2', size=32)",
    "train": """
import torch
from kinema.train.job import _runnable
from kinema.train.settings import TrainSettings
_runnable(net, TrainSettings(compile=True), torch.device("cpu"))(torch.zeros(1, 2, 3, 32, 32))
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("task", COMPILE)
def test_nothing_is_compiled_into_the_shared_folder_of_temporary_files(
    folder, default, task, tmp_path
):
    """PyTorch's default is /tmp/torchinductor_USER, a name that others can take before."""
    script = (
        "import kinema, sys; OUT = sys.argv[1]; "
        "net = kinema.create_model('tsn_test_resnet', classes=2, frames=2).eval()\n" + COMPILE[task]
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "TMPDIR": str(default.parent)},
        check=True,
    )
    assert list((folder / "inductor").iterdir())
    assert {path.name for path in default.iterdir()} <= {"precompiled_headers"}
