"""Errors of packages that are installed but do not fit each other."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from kinema.errors import InstallationError


@contextmanager
def naming_wrong_torchvision() -> Iterator[None]:
    """Turns torchvision's error about another PyTorch into one that states the fix.

    Raises:
        InstallationError: torchvision was built for another version of PyTorch.
    """
    try:
        yield
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        raise InstallationError(
            f"torch {version('torch')} and torchvision {version('torchvision')} do not fit each "
            f"other ({error}). Install both together, from the same index: pip install "
            "--force-reinstall torch torchvision"
        ) from error
