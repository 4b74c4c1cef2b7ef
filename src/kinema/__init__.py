"""kinema: action recognition in video with 2D CNN backbones and plug-in temporal modules.

The public names below are loaded when they are first used, so importing the package is quick.
`kinema.train` is the package of training: `kinema.train.train(recipe, out="runs/first")`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinema import train
    from kinema.data.annotations import read_annotations
    from kinema.data.dataset import ClipDataset, VideoDataset
    from kinema.data.transforms import Augmentation, TrainTransform, ViewTransform
    from kinema.errors import KinemaError
    from kinema.evaluation.evaluate import evaluate
    from kinema.exporters import ExportReport, export
    from kinema.inference.optimize import optimize
    from kinema.models.backbones import list_backbones
    from kinema.models.convert import import_checkpoint
    from kinema.models.network import VideoNetwork
    from kinema.models.placement import Part
    from kinema.models.saved import save
    from kinema.models.zoo import create_model, list_models
    from kinema.recognizer import Recognizer
    from kinema.temporal import list_temporal
    from kinema.values import Prediction, Preprocessing, Report, Views

    __version__: str

_MODULES = {
    "Augmentation": "kinema.data.transforms",
    "ClipDataset": "kinema.data.dataset",
    "ExportReport": "kinema.exporters",
    "KinemaError": "kinema.errors",
    "Part": "kinema.models.placement",
    "Prediction": "kinema.values",
    "Preprocessing": "kinema.values",
    "Recognizer": "kinema.recognizer",
    "Report": "kinema.values",
    "TrainTransform": "kinema.data.transforms",
    "VideoDataset": "kinema.data.dataset",
    "VideoNetwork": "kinema.models.network",
    "ViewTransform": "kinema.data.transforms",
    "Views": "kinema.values",
    "create_model": "kinema.models.zoo",
    "evaluate": "kinema.evaluation.evaluate",
    "export": "kinema.exporters",
    "import_checkpoint": "kinema.models.convert",
    "list_backbones": "kinema.models.backbones",
    "list_models": "kinema.models.zoo",
    "list_temporal": "kinema.temporal",
    "optimize": "kinema.inference.optimize",
    "read_annotations": "kinema.data.annotations",
    "save": "kinema.models.saved",
}

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("kinema")
    if name == "train":
        return import_module("kinema.train")
    if name not in _MODULES:
        raise AttributeError(f"module 'kinema' has no attribute {name!r}")
    with import_module("kinema.system.installation").naming_wrong_torchvision():
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
