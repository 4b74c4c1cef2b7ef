"""benchmarks/kernels.py runs and writes its result."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kinema.temporal.kernels import native

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "kernels.py"


@pytest.mark.slow
@pytest.mark.skipif(native.library() is None, reason="there is no C compiler")
def test_it_compares_every_form_with_and_without_each_kernel(tmp_path):
    words = ["tsm", "tei", "tin", "--smoke", "--out", str(tmp_path / "k.json")]
    subprocess.run([sys.executable, str(SCRIPT), *words], check=True, capture_output=True)
    rows = json.loads((tmp_path / "k.json").read_text(encoding="utf-8"))["rows"]
    forms = {(row["module"], row["form"]) for row in rows}
    assert len(forms) == 4 + 4 + 3  # TIN has no causal form, so no step
    kernels = [r["kernel"] for r in rows if (r["module"], r["form"]) == ("tei", "eager-32")]
    assert kernels == ["all", "mix", "spatial_mean"]
    assert all(row["ms"] > 0 < row["without_ms"] for row in rows)
