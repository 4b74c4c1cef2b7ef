"""The public names of the package, and that importing it is light."""

import subprocess
import sys
from pathlib import Path

import pytest

import kinema


def printed_by(code: str) -> str:
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def test_public_names_are_pinned():
    assert kinema.__all__ == [
        "Augmentation",
        "ClipDataset",
        "ExportReport",
        "KinemaError",
        "Part",
        "Prediction",
        "Preprocessing",
        "Recognizer",
        "Report",
        "TrainTransform",
        "VideoDataset",
        "VideoNetwork",
        "ViewTransform",
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
    with pytest.raises(AttributeError, match="module 'kinema' has no attribute 'no_such_name'"):
        _ = kinema.no_such_name


def test_no_module_has_the_name_of_a_public_function_or_of_the_standard_library():
    source = Path(kinema.__file__).parent
    modules = [path.relative_to(source) for path in source.rglob("*.py")]
    own = {path.stem for path in modules} - {"__init__", "__main__"}
    assert not own & sys.stdlib_module_names, (
        "a script run from that folder would import it instead"
    )
    top = {path.parts[0].removesuffix(".py") for path in modules}
    assert top & set(kinema.__all__) == {"train"}, "importing it would hide the function"


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
def test_prediction_loads_no_heavy_extras():
    code = (
        "import sys, kinema\nkinema.Recognizer\n"
        "heavy = {'torchmetrics', 'lightning', 'matplotlib', 'jinja2', 'pandas', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert printed_by(code) == "[]"


@pytest.mark.slow
def test_prediction_loads_no_code_for_files_cameras_or_long_videos():
    code = (
        "import sys, kinema\nkinema.Recognizer\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('kinema.')}\n"
        "print(sorted(rooms & {'exporters', 'live', 'timeline', 'evaluation', 'train', 'report'}))"
    )
    assert printed_by(code) == "[]"
