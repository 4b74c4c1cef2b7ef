"""PyTorch's compiler and Triton: their caches, from which they load code, and what they need."""

import os
import shutil
import sys
from pathlib import Path

from kinema.errors import OptionError
from kinema.system.cache_folder import cache_folder, check_private

_FOLDERS = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}


def keep_compilers_private() -> None:
    """Moves the caches of PyTorch's compiler and of Triton to the cache folder.

    PyTorch's default is a predictable name among the temporary files, which another user may have
    created first; it is in the environment as soon as timm is imported. A folder that the user
    named there stays.
    """
    # Not at the top: most commands compile nothing, and the import takes longer than theirs.
    import torch._inductor.config
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    shared = default_cache_dir()
    for variable, name in _FOLDERS.items():
        if os.environ.get(variable, shared) == shared:
            os.environ[variable] = str(cache_folder(name))
    try:
        Path(shared).mkdir(mode=0o700, exist_ok=True)
        check_private(Path(shared))
    except OSError:
        # Precompiled headers are in that folder always.
        torch._inductor.config.cpp_cache_precompile_headers = False
        torch._inductor.config.aot_inductor.precompile_headers = False


def check_cpp_compiler(task: str) -> None:
    """Checks that PyTorch's compiler finds the C++ compiler that it needs on a CPU.

    Args:
        task: Subject of the error, such as "train.compile".

    Raises:
        OptionError: there is none.
    """
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(name) is None:
        raise OptionError(
            f"{task} needs a C++ compiler, and {name} was not found. Install g++, set CXX to "
            "another one, or do without."
        )
