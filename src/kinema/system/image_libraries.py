"""timm and torchvision, imported without PyTorch's compiler.

torchvision imports the compiler for one function, which runs when its RoIAlign is compiled, and
timm to keep one method out of compiled code. That takes two thirds of the time until both are
imported. Here stand-ins take the compiler's place meanwhile, and load it when those two first run.
Where it is already imported, nothing changes.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["InterpolationMode", "functional", "timm", "torchvision", "tv_tensors", "v2"]

_COMPILER = "torch._dynamo"


def _load() -> ModuleType:
    for name in (_COMPILER, f"{_COMPILER}.utils"):
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]
    return importlib.import_module(_COMPILER)


class _StandIn(ModuleType):
    """A module of the compiler with the functions that are needed at import."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python itself asks every module for its file, path, ...
            raise AttributeError(name)
        _load()
        return getattr(importlib.import_module(self.__name__), name)


def _is_compile_supported(device_type: str) -> bool:
    return bool(_load().utils.is_compile_supported(device_type))


def _disable(function: Callable[..., Any], *args: Any, **options: Any) -> Callable[..., Any]:
    """Keeps the function out of compiled code, which exists once the compiler was imported."""

    @functools.wraps(function)
    def run(*inputs: Any, **keywords: Any) -> Any:
        if _COMPILER not in sys.modules:
            return function(*inputs, **keywords)
        return _load().disable(function, *args, **options)(*inputs, **keywords)

    run._torchdynamo_disable = True  # type: ignore[attr-defined]
    run._torchdynamo_disable_msg = options.get("reason")  # type: ignore[attr-defined]
    return run


@contextmanager
def _without_compiler() -> Iterator[None]:
    if _COMPILER in sys.modules:
        yield
        return
    compiler, parts = _StandIn(_COMPILER), _StandIn(f"{_COMPILER}.utils")
    compiler.disable, compiler.utils = _disable, parts  # type: ignore[attr-defined]
    parts.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules.update({module.__name__: module for module in (compiler, parts)})
    try:
        yield
    finally:
        for module in (compiler, parts):
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]


with _without_compiler():
    import timm
    import torchvision
    from torchvision import tv_tensors
    from torchvision.transforms import InterpolationMode, v2
    from torchvision.transforms.v2 import functional
