"""Temporal modules from a user's own file."""

import importlib.util
import sys
from pathlib import Path

from kinema.errors import OptionError
from kinema.temporal.base import list_temporal


def load_plugin(path: str | Path) -> list[str]:
    """Runs a Python file that registers temporal modules; returns the names it added.

    Only for the user's own code: unlike a checkpoint, the file is executed. A file that was loaded
    before is not run again.

    Raises:
        OptionError: there is no such file, it registers nothing, or another one of its name is
            loaded.
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
    before = set(list_temporal())
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    added = [name for name in list_temporal() if name not in before]
    if not added:
        raise OptionError(
            f"Plugin {path} registers no temporal module. Put "
            '@kinema.temporal.register("my_module", at="before_conv1") on a TemporalModule in it.'
        )
    return added
