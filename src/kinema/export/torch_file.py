"""PyTorch's own files: an exported program, and a compiled AOTInductor package."""

from pathlib import Path

import torch

from kinema.export.graph import FACTS_KEY, Source, quiet, traced
from kinema.models.network import Run


def write_exported(source: Source, path: Path) -> None:
    """Writes a program for `torch.export.load`."""
    with quiet():
        torch.export.save(traced(source), path, extra_files={FACTS_KEY: source.facts})


def load_exported(path: Path) -> Run:
    """The program as a function from clips to scores."""
    run: Run = torch.export.load(path).module()
    return run


def write_package(source: Source, path: Path) -> None:
    """Writes machine code for this kind of processor, for `torch._inductor.aoti_load_package`."""
    with quiet():
        torch._inductor.aoti_compile_and_package(
            traced(source),
            package_path=str(path),
            inductor_configs={"aot_inductor.metadata": {FACTS_KEY: source.facts}},
        )


def load_package(path: Path) -> Run:
    """The package as a function from clips to scores."""
    with quiet():
        run: Run = torch._inductor.aoti_load_package(str(path))
    return run
