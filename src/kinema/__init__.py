"""kinema: action recognition in video with 2D CNN backbones and plug-in temporal modules.

The public names below are loaded when they are first used, so importing the package is quick.
`kinema.train` is the package of training: `kinema.train.train(recipe, out="runs/first")`.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinema import train
    from kinema.data.annotations import read_annotations
    from kinema.data.dataset import VideoDataset
    from kinema.errors import KinemaError
    from kinema.evaluate import evaluate
    from kinema.export import ExportReport, export
    from kinema.models.backbones import list_backbones
    from kinema.models.convert import import_checkpoint
    from kinema.models.network import VideoNetwork
    from kinema.models.saved import save
    from kinema.models.zoo import create_model, list_models
    from kinema.optimize import optimize
    from kinema.recognizer import Recognizer
    from kinema.temporal import list_temporal
    from kinema.types import Prediction, Preprocessing, Report, Views

    __version__: str

_HOMES = {
    "ExportReport": "kinema.export",
    "KinemaError": "kinema.errors",
    "Prediction": "kinema.types",
    "Preprocessing": "kinema.types",
    "Recognizer": "kinema.recognizer",
    "Report": "kinema.types",
    "VideoDataset": "kinema.data.dataset",
    "VideoNetwork": "kinema.models.network",
    "Views": "kinema.types",
    "create_model": "kinema.models.zoo",
    "evaluate": "kinema.evaluate",
    "export": "kinema.export",
    "import_checkpoint": "kinema.models.convert",
    "list_backbones": "kinema.models.backbones",
    "list_models": "kinema.models.zoo",
    "list_temporal": "kinema.temporal",
    "optimize": "kinema.optimize",
    "read_annotations": "kinema.data.annotations",
    "save": "kinema.models.saved",
}
_PACKAGES = ("train",)

__all__ = [
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


class _Package(ModuleType):
    """The package itself: a public function stays in place when its module is imported.

    `kinema.evaluate` is a function that lives in the module of the same name, and importing a
    module would otherwise put the module where the function is.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOMES.get(name) == value.__name__:
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return import_module("importlib.metadata").version("kinema")
        if name in _PACKAGES:
            return import_module(f"kinema.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'kinema' has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
