"""Loads a user's Python file that registers temporal modules, backbones or annotation formats."""

import importlib.util
import sys
from pathlib import Path

from kinema.data.annotations import FORMATS
from kinema.errors import OptionError
from kinema.models.blocks import registered_blocks
from kinema.temporal import list_temporal


def load_plugin(path: str | Path) -> list[str]:
    """Runs a Python file that registers something; returns the names that it added.

    Only for the user's own code: unlike a checkpoint, the file is executed. A file that has been
    loaded before is not run again.

    Raises:
        OptionError: there is no such file, it registers nothing, or another file of the same name
            is loaded.
    """
    file = Path(path).resolve()
    name = f"kinema_plugin_{file.stem}"
    if name in sys.modules:
        loaded = Path(str(sys.modules[name].__file__))
        if loaded == file:
            return []
        raise OptionError(f"Plugin {path} has the name of {loaded}, which is loaded. Rename one.")
    if not file.is_file():
        raise OptionError(f"Plugin {path} does not exist. Name a Python file.")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise OptionError(f"Plugin {path} is not a Python file (its name must end in .py).")
    before = set(_registered())
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    added = [name for name in _registered() if name not in before]
    if not added:
        raise OptionError(
            f"Plugin {path} registers nothing. Call kinema.temporal.register, "
            "kinema.models.blocks.register_blocks or kinema.data.annotations.register_format in it."
        )
    return added


def _registered() -> list[str]:
    return [*list_temporal(), *registered_blocks(), *FORMATS]
