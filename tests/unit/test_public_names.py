"""The public names of the package, and that importing it is light."""

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

import kinema


def printed_by(code: str) -> str:
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def test_public_names_are_pinned():
    assert kinema.__all__ == [
        "ExportReport",
        "KinemaError",
        "Prediction",
        "Preprocessing",
        "Recognizer",
        "Report",
        "VideoDataset",
        "VideoNetwork",
        "Views",
        "create_model",
        "evaluate",
        "export",
        "import_checkpoint",
        "list_backbones",
        "list_models",
        "list_temporal",
        "optimize",
        "read_annotations",
        "save",
        "train",
    ]
    for name in kinema.__all__:
        assert getattr(kinema, name) is not None
    assert set(kinema.__all__) <= set(dir(kinema))
    assert kinema.__version__.count(".") == 2


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match="module 'kinema' has no attribute 'recogniser'"):
        _ = kinema.recogniser


def test_evaluate_is_the_function_whatever_is_imported_first(monkeypatch):
    module = import_module("kinema.evaluate")
    assert kinema.evaluate is module.evaluate
    monkeypatch.delitem(sys.modules, "kinema.evaluate")
    monkeypatch.delattr(kinema, "evaluate")
    again = import_module("kinema.evaluate")  # the import system sets the attribute here
    assert isinstance(again, ModuleType)
    assert again is not module
    assert kinema.evaluate is again.evaluate
    monkeypatch.delattr(kinema, "evaluate")
    assert kinema.evaluate is again.evaluate  # looked up by name, the module is already there


def test_train_is_the_package_with_the_call():
    from kinema.train import loop

    assert kinema.train.train is loop.train


def test_importing_the_package_and_its_command_line_is_light():
    code = (
        "import sys, kinema, kinema.cli.main\n"
        "heavy = {'torch', 'numpy', 'timm', 'av', 'matplotlib', 'pydantic', 'torchmetrics'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert printed_by(code) == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(
    "first", ["import kinema.evaluate", "kinema.evaluate", "from kinema.evaluate import evaluate"]
)
def test_evaluate_is_a_function_in_a_fresh_process(first):
    code = f"import kinema\n{first}\nimport kinema.evaluate\nprint(kinema.evaluate.__name__)"
    assert printed_by(code) == "evaluate"


@pytest.mark.slow
def test_prediction_loads_no_heavy_extras():
    code = (
        "import sys, kinema\nkinema.Recognizer\n"
        "heavy = {'torchmetrics', 'lightning', 'matplotlib', 'jinja2', 'pandas', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert printed_by(code) == "[]"
