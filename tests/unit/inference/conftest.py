"""A real video for all tests of inference."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def video(color_set: Path) -> Path:
    """12 frames of 64 x 48 pixels at 12 Hz."""
    return color_set / "green" / "0.mp4"
