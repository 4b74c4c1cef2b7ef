"""Checks a list of locked versions for known vulnerabilities with pip-audit: `make audit`.

pip-audit exits successfully if its service of advisories knows none of the packages, so every audit
first looks up versions that are known to be bad, `known_bad.txt`. Exit codes: 0 if nothing was
found, 1 for vulnerabilities, 2 if nothing could be looked up.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KNOWN_BAD = Path(__file__).with_name("known_bad.txt")
LOCKED = Path(__file__).resolve().parents[1] / "constraints.txt"
COMMAND = ("pip_audit", "--no-deps", "--disable-pip", "--format", "json")
SERVICE = ("--vulnerability-service", "osv", "--progress-spinner", "off")


@dataclass(frozen=True)
class Package:
    """Locked version, and its vulnerabilities with their fixes."""

    name: str
    version: str
    bugs: tuple[str, ...]


class AuditError(Exception):
    """Nothing was audited; the message says why."""


def look_up(locked: Path, service: tuple[str, ...]) -> list[Package]:
    """Looks up every package of a list of locked versions.

    Raises:
        AuditError: pip-audit failed, or left packages out.
    """
    words = [sys.executable, "-m", *COMMAND, *service, "--requirement", str(locked)]
    answer = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        packages: list[dict[str, Any]] = json.loads(answer.stdout)["dependencies"]
        skipped = [package["name"] for package in packages if "skip_reason" in package]
        found = [
            Package(entry["name"], entry["version"], tuple(map(_bug, entry["vulns"])))
            for entry in packages
            if "skip_reason" not in entry
        ]
    except (ValueError, KeyError, TypeError):
        last = (answer.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise AuditError(f"pip-audit failed ({last[:300]})") from None
    if skipped or not found:
        raise AuditError(f"{locked.name}: not looked up: {', '.join(skipped) or 'any package'}")
    return found


def _bug(entry: dict[str, Any]) -> str:
    names = " = ".join([entry["id"], *entry.get("aliases", [])])
    return f"{names}, fixed in {', '.join(entry['fix_versions']) or 'no version yet'}"


def audit(locked: Path, service: tuple[str, ...]) -> list[Package]:
    """Returns the vulnerable packages of a list.

    Raises:
        AuditError: see `look_up`; or the service does not know that bad versions are bad.
    """
    missed = [p for p in look_up(KNOWN_BAD, service) if not p.bugs]
    if missed:
        names = ", ".join(f"{package.name} {package.version}" for package in missed)
        raise AuditError(f"the service has no advisory for {names}, which have published ones")
    return [package for package in look_up(locked, service) if package.bugs]


def main() -> int:
    """Parses the command line, audits and prints the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("locked", nargs="?", type=Path, default=LOCKED)
    parser.add_argument("--osv-url", default=os.environ.get("OSV_URL"), help="mirror of OSV")
    words = parser.parse_args()
    service = (*SERVICE, *(("--osv-url", words.osv_url) if words.osv_url else ()))
    try:
        bad = audit(words.locked, service)
    except AuditError as error:
        print(
            f"Nothing was audited: {error}. Run `make audit` where the service of advisories can "
            "be reached, or name a mirror of it in OSV_URL.",
            file=sys.stderr,
        )
        return 2
    for package in bad:
        for bug in package.bugs:
            print(f"{package.name} {package.version}: {bug}", file=sys.stderr)
    if bad:
        print(f"{len(bad)} packages of {words.locked.name} are vulnerable.", file=sys.stderr)
        return 1
    print(f"{words.locked.name}: no known vulnerability.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
