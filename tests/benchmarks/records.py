"""What many recorded trials cost: the two commands that make everything derived from them.

    python -m tests.benchmarks.records [--records 10000] [--rounds 5]

The records are as large as real ones of ten epochs, in a space of 14,400 points. `study.run --resume` of the finished
study writes its tables and its choice, `study.analyze` prints its report and draws figures and page.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from study.folder import Folder
from study.search.ledger import Ledger
from study.space import Space, parse
from study.study import Run, now
from tests.benchmarks.overhead import SPACE, a_result_of, call
from tests.benchmarks.report import circumstances, spread
from tests.study_helpers import a_study, referred


def main() -> None:
    """Run both, round after round, and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    here = circumstances()
    with tempfile.TemporaryDirectory(prefix="records-") as name:
        folder = Folder(Path(name) / "free")
        write(folder, parse("large", SPACE), asked.records)
        rounds = [derived(folder, asked.records) for _ in range(asked.rounds)]
    tables, figures = (spread(seconds) for seconds in zip(*rounds, strict=True))
    print(f"{asked.records} records: trials.csv, epochs.csv, best.json, summary.md in {tables} s (study.run --resume),")
    print(f"report, figures and page in {figures} s (study.analyze)\n{here}")


def derived(folder: Folder, records: int) -> tuple[float, float]:
    """The seconds of the two commands."""
    begun = time.perf_counter()
    where = ("--name", folder.path.name, "--results", str(folder.path.parent))
    call([sys.executable, "-m", "study.run", "--resume", *where])
    tables = time.perf_counter() - begun
    begun = time.perf_counter()
    call([sys.executable, "-m", "study.analyze", str(folder.path)])
    figures = time.perf_counter() - begun
    rows = len((folder.path / "trials.csv").read_text().splitlines()) - 1
    assert rows == records, f"{rows} rows for {records} records"
    return tables, figures


def write(folder: Folder, space: Space, records: int) -> None:
    """The folder of a finished study."""
    folder.trials.mkdir(parents=True)
    draws = random.Random(0)
    ledger = Ledger(referred(a_study(name="free", space=space, trials=records)), [], lambda record: None)
    for _ in range(records):
        record = ledger.start(space.at(draws.randrange(space.size)))
        ledger.complete(record.trial, a_result_of(record.config))
    for record in ledger.records.values():
        folder.write_record(record)
    folder.write_study(ledger.study, Run(started=now(), command="", commit=None, versions={}, store="none"))


if __name__ == "__main__":
    main()
