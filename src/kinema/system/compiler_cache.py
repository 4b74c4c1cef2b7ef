"""Caches of PyTorch's compiler and of Triton, which load code from them."""

import os
from pathlib import Path

import torch._inductor.config
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from kinema.system.cache_folder import cache_folder, check_private

_FOLDERS = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}


def keep_compilers_private() -> None:
    """Moves the caches of PyTorch's compiler and of Triton to the cache folder.

    PyTorch's default is a predictable name among the temporary files, which another user may have
    created first; it is in the environment as soon as timm is imported. A folder that the user
    named there stays.
    """
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
