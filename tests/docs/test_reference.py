"""The table of networks and backbones is what the code builds."""

import importlib.util
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_table_of_networks_is_of_today():
    spec = importlib.util.spec_from_file_location(
        "reference_tables", REPOSITORY / "scripts/reference_tables.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.table() == module.TARGET.read_text(encoding="utf-8"), (
        "run python scripts/reference_tables.py"
    )
