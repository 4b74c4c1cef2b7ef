"""The file of a measurement: rows, how they were measured, and on what machine."""

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
    """What one `kinema bench` run has measured.

    Attributes:
        kind: The sub-command, such as "model".
        settings: What was measured: sizes, batch, rounds.
        rows: One dict per form; `ratio` is its time over that of the form named in `against`.
        notes: What a reader of the rows must know.
        command: The words of the command line.
    """

    kind: str
    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    notes: tuple[str, ...] = ()
    command: str = field(default_factory=lambda: command_of(sys.argv))

    def document(self) -> dict[str, Any]:
        """Plain data for JSON, with versions, commit and machine."""
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
    """The command line for others to use: an absolute path loses the folders of this machine.

    Args:
        words: As in `sys.argv`.
    """
    program = Path(words[0])
    script = program.parent.name == "benchmarks"
    start = ["python", "-m", f"benchmarks.{program.stem}"] if script else ["kinema"]
    return shlex.join([*start, *(Path(w).name if Path(w).is_absolute() else w for w in words[1:])])


def write_measurement(document: dict[str, Any], path: Path) -> None:
    """Writes the document as JSON; an older file is replaced only when the new one is whole."""
    write_whole(path, json.dumps(document, indent=1) + "\n")
