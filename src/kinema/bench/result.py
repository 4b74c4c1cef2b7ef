"""Measurement file: rows, settings and machine facts."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kinema.system.files import write_whole
from kinema.system.machine import run_facts


@dataclass(frozen=True)
class Measurement:
    """Result of a benchmark."""

    kind: str  # subcommand, such as "model"
    settings: dict[str, Any]  # sizes, batch, rounds
    rows: list[dict[str, Any]]  # one per form; `ratio`: its time over that of `against`
    notes: tuple[str, ...] = ()  # for readers of the rows
    command: str = field(default_factory=lambda: command_of(sys.argv))

    def document(self) -> dict[str, Any]:
        """Returns plain data for JSON, with versions, commit and machine."""
        return {
            "kind": self.kind,
            "command": self.command,
            "date": datetime.now(UTC).date().isoformat(),
            "settings": self.settings,
            "rows": self.rows,
            "notes": list(self.notes),
            **run_facts(),
        }


def command_of(words: Sequence[str]) -> str:
    """Command line of `sys.argv` for others; absolute paths are reduced to their names."""
    program = Path(words[0])
    script = program.parent.name == "benchmarks"
    start = ["python", "-m", f"benchmarks.{program.stem}"] if script else ["kinema"]
    return shlex.join([*start, *(Path(w).name if Path(w).is_absolute() else w for w in words[1:])])


def write_measurement(document: dict[str, Any], path: Path) -> None:
    """Writes the document as JSON, replacing an older file atomically."""
    write_whole(path, json.dumps(document, indent=1) + "\n")
