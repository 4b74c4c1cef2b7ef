"""`make audit`: what could not be looked up is not called well."""

import json
import runpy
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "audit.py"))
GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "part"),
    [
        (
            [GOOD] * 9 + [UNKNOWN],
            0,
            "No known vulnerabilities in 9 packages. Not looked up: unknown",
        ),
        ([GOOD, BAD], 1, "bad 2: CVE-1, fixed in 2.1"),
        ([BAD, UNKNOWN, UNKNOWN], 1, "1 known vulnerabilities"),
        ([UNKNOWN] * 5, 2, "5 of 5 packages could not be looked up"),
        ([GOOD, UNKNOWN], 2, "Nothing is known"),
        ([], 2, "Nothing is known"),
    ],
)
def test_the_verdict(packages, code, part):
    found = SCRIPT["verdict"](json.dumps({"dependencies": packages}), "")
    assert found.code == code
    assert part in found.words


@pytest.mark.parametrize("text", ["", "{}", "[]", "no json"])
def test_a_failure_is_told(text):
    found = SCRIPT["verdict"](text, "Traceback\nConnectionError: no route\n")
    assert (found.code, "ConnectionError: no route" in found.words) == (2, True)
