"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with clips/, annotations/, sets/ and weights/; tests that need it carry `data`."""
    folder = Path(os.environ.get("KINEMA_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "clips").is_dir():
        pytest.skip(f"no real data at {folder}: set KINEMA_DATA to the data folder")
    return folder
