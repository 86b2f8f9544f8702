"""How a job on the cluster answers: one line of JSON in its log."""

import json
import sys
from typing import Any

_MARK = "study.cluster answers: "


def answer(entries: dict[str, Any]) -> None:
    """Say it in a line of its own, whatever stands before it."""
    sys.stdout.write(f"\n{_MARK}{json.dumps(entries)}\n")
    sys.stdout.flush()


def heard(log: str) -> dict[str, Any] | None:
    """The answer in a job's log; None where there is none."""
    lines = [line for line in log.splitlines() if line.startswith(_MARK)]
    try:
        entries = json.loads(lines[-1].removeprefix(_MARK)) if lines else None
    except ValueError:  # it was cut off
        return None
    return entries if isinstance(entries, dict) else None
