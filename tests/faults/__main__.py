"""Print the table of faults, each with its verdict; the exit code is 0 where every promise held."""

import contextlib
import io
import sys
from pathlib import Path

import pytest

from moe.console import emit, table
from tests.faults.table import faults


class Verdicts:
    """What pytest finds out about each row, by its name."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the verdict on a row once it was run."""
        name = report.nodeid.partition("[")[2].removesuffix("]")
        if report.skipped:
            self.found[name] = f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"
        elif report.failed:
            self.found[name] = "BROKEN"
        elif report.when == "call":
            self.found.setdefault(name, "held")


def main(word: str = "") -> int:
    """Run all rows whose kind, place or words have this word in them, and print them."""
    verdicts, output = Verdicts(), io.StringIO()
    with contextlib.redirect_stdout(output):
        options = ["-q", "-n0", "-p", "no:cacheprovider", "-k", "holds"]
        pytest.main([*options, str(Path(__file__).with_name("test_faults.py"))], plugins=[verdicts])
    rows = [
        (fault.kind, fault.where, fault.what, fault.promise, verdicts.found.get(fault.name, "not run"))
        for fault in faults()
        if word in fault.name
    ]
    emit(table(("kind", "where", "what goes wrong", "what is promised", "verdict"), rows, left=5))
    counts = {word: sum(row[-1].startswith(word) for row in rows) for word in ("held", "BROKEN", "skipped", "not run")}
    emit(", ".join(f"{count} {word}" for word, count in counts.items() if count))
    if counts["BROKEN"] or counts["not run"]:
        emit(output.getvalue())
    return 1 if counts["BROKEN"] or counts["not run"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
