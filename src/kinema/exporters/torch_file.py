"""PyTorch's file formats: exported programs and compiled AOTInductor packages."""

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kinema.inference.graph import FACTS_KEY, Call, Graph, quiet
from kinema.system.compiler_cache import check_cpp_compiler, keep_compilers_private


def write_exported(graph: Graph, path: Path) -> None:
    """Writes a program for `torch.export.load`, without the clips of zeros it was traced with."""
    program = copy.copy(graph.program)
    program.example_inputs = None
    content = io.BytesIO()  # on a full disk PyTorch's writer ends the process
    with quiet():
        torch.export.save(program, content, extra_files={FACTS_KEY: graph.facts})
    path.write_bytes(content.getbuffer())


def load_exported(path: Path) -> Call:
    """Loads the program as a function of tensors."""
    return _always_tuple(torch.export.load(path).module())


def write_package(graph: Graph, path: Path) -> None:
    """Compiles an AOTInductor package with machine code for this kind of processor."""
    check_cpp_compiler("The format aoti")
    keep_compilers_private()
    content = io.BytesIO()
    with quiet():
        torch._inductor.aoti_compile_and_package(
            graph.program,
            package_path=content,
            inductor_configs={"aot_inductor.metadata": {FACTS_KEY: graph.facts}},
        )
    path.write_bytes(content.getbuffer())


def load_package(path: Path) -> Call:
    """Loads the package as a function of tensors."""
    with quiet():
        return _always_tuple(torch._inductor.aoti_load_package(str(path)))


def _always_tuple(program: Callable[..., Any]) -> Call:
    @torch.no_grad()
    def call(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = program(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return call
