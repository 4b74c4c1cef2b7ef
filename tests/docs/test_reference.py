"""The table of networks and backbones agrees with the code."""

import runpy
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_table_of_networks_is_up_to_date():
    script = runpy.run_path(str(REPOSITORY / "scripts/reference_tables.py"))
    assert script["table"]() == script["TARGET"].read_text(encoding="utf-8"), (
        "run python scripts/reference_tables.py"
    )
