"""Checks the installed packages for known vulnerabilities with pip-audit: `make audit`.

Without access to the vulnerability database, pip-audit skips every package and exits successfully;
here the exit code is then 2. Exit code 1 means that vulnerabilities were found.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

COMMAND = ("pip_audit", "--skip-editable", "--format", "json", "--progress-spinner", "off")
# Fraction of packages; the project itself and packages of other indexes are in no database.
MOST_SKIPPED = 0.2


@dataclass(frozen=True)
class Verdict:
    """Message and exit code."""

    words: str
    code: int


def verdict(text: str, errors: str) -> Verdict:
    """Interprets the output of pip-audit."""
    try:
        packages: list[dict[str, Any]] = json.loads(text)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (errors.strip().splitlines() or ["it said nothing"])[-1]
        return Verdict(f"Nothing was audited: pip-audit failed ({last[:300]}).", 2)
    skipped = [package for package in packages if "skip_reason" in package]
    found = [
        f"{package['name']} {package['version']}: {bug['id']}, fixed in "
        f"{', '.join(bug['fix_versions']) or 'no version yet'}"
        for package in packages
        for bug in package.get("vulns", [])
    ]
    if found:
        return Verdict("\n".join([*found, f"{len(found)} known vulnerabilities."]), 1)
    if len(skipped) > MOST_SKIPPED * len(packages) or not packages:
        return Verdict(
            f"Nothing is known: {len(skipped)} of {len(packages)} packages could not be looked up. "
            "The list of known vulnerabilities cannot be reached from here; run `make audit` where "
            "it can.",
            2,
        )
    words = f"No known vulnerabilities in {len(packages) - len(skipped)} packages."
    names = ", ".join(package["name"] for package in skipped)
    return Verdict(words + (f" Not looked up: {names}." if skipped else ""), 0)


def main() -> int:
    """Runs pip-audit on the environment of this Python."""
    answer = subprocess.run(
        [sys.executable, "-m", *COMMAND], capture_output=True, text=True, check=False
    )
    found = verdict(answer.stdout, answer.stderr)
    print(found.words, file=sys.stderr if found.code else sys.stdout)
    return found.code


if __name__ == "__main__":
    sys.exit(main())
