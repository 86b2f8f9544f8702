"""What a study costs by itself: trials that cost nothing, under the command that a person runs.

    python -m tests.benchmarks.overhead [--trials 10 100 1000] [--concurrency 2 16 64] [--records 10000]

Each run is `python -m study.run` in a process of its own: its Ray, its searcher (TPE over 14,400 points), its ledger,
records on disk, tables at the end. Only the training is left out: a trial reports its end at once, with a result as
large as a real one, and fails if its process has loaded torch. There are as many CPUs as trials at once, in Ray's
books; how many there really are is printed, and workers start and answer no faster than those let them.

    first      seconds from the start of the command until a worker has the first trial
    wall, CPU  milliseconds per trial, from the end of the first trial to that of the last; CPU is the driver's, all of
               its threads
    workers    how many the driver asked Ray for; as many as trials at once would do
    growth     CPU per trial in the last tenth of the trials, against the tenth that comes after the first ones of as
               many workers as there are; where there are 100 trials after those
    driver     the driver's most memory before the tables, and by how much it grows with each trial
    worker     the most memory of any worker
    rest       seconds from the last trial's end to that of the command: Ray's end, tables, database

Then, so many records are written down, and read by the two commands that make everything derived from them.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

from study import machine
from study.ledger import Ledger
from study.records import COMPLETE, Folder, Record
from study.space import Space, parse
from tests.study_helpers import a_result, a_study

SPACE = {
    "epochs": [1, 2, 4, 8, 16, 30],
    "batch_size": [10, 25, 50, 100],
    "train_examples": [100, 200, 300, 400, 500],
    "test_examples": 100,
    "use_large_experts": [False, True],
    "use_large_gating_mlp": [False, True],
    "use_large_baseline_classifier": [False, True],
    "learning_rate": [0.0003, 0.001, 0.003, 0.01, 0.03],
    "patience": [1, 2, 4],
}
LEAST_FOR_GROWTH = 100  # trials
TITLES = (
    "trials",
    "at once",
    "first s",
    "wall ms",
    "CPU ms",
    "workers",
    "growth",
    "driver MB",
    "KB/trial",
    "worker MB",
    "rest s",
)


@dataclass(frozen=True)
class Mark:
    """The driver once it has written down a trial's end."""

    at: float  # seconds since 1970
    cpu: float  # seconds that the driver has used
    kb: int  # the most memory that it has had


@dataclass(frozen=True)
class Run:
    """What one run cost."""

    concurrency: int
    began: float
    ended: float
    first: float  # when a worker had the first trial
    workers: int
    worker_kb: int
    marks: Sequence[Mark]

    def row(self) -> str:
        """The run as a line of the table."""
        marks = self.marks
        steps = max(1, len(marks) - 1)
        wall, cpu = (1000 * (getattr(marks[-1], name) - getattr(marks[0], name)) / steps for name in ("at", "cpu"))
        cells = [str(len(marks)), str(self.concurrency), f"{self.first - self.began:.1f}", f"{wall:.1f}", f"{cpu:.1f}"]
        cells += [
            str(self.workers),
            self._growth(),
            f"{marks[-1].kb / 1024:.0f}",
            f"{(marks[-1].kb - marks[0].kb) / steps:.0f}",
        ]
        cells += [f"{self.worker_kb / 1024:.0f}", f"{self.ended - marks[-1].at:.1f}"]
        return _line(cells)

    def _growth(self) -> str:
        cpu = [mark.cpu for mark in self.marks[self.concurrency :]]
        if len(cpu) <= LEAST_FOR_GROWTH:
            return "-"
        tenth = len(cpu) // 10
        return f"{(cpu[-1] - cpu[-1 - tenth]) / (cpu[tenth] - cpu[0]):.2f}"


def main() -> None:
    """Run all, and print a line as each ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[2, 16, 64])
    parser.add_argument("--records", type=int, default=10_000, help="0 leaves the tables out")
    asked = parser.parse_args()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions().items())
    print(f"{machine.cpus()} CPUs, a load of {os.getloadavg()[0]:.1f}; {versions}; commit {machine.commit()}\n")
    print(_line(TITLES), flush=True)
    for trials, concurrency in itertools.product(asked.trials, asked.concurrency):
        print(run(trials, concurrency).row(), flush=True)
    if asked.records:
        print(f"\n{derived(asked.records)}")


def _line(cells: Sequence[str]) -> str:
    return " ".join(f"{cell:>9}" for cell in cells)


def run(trials: int, concurrency: int) -> Run:
    """One study of trials that cost nothing."""
    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        scratch = Path(name)
        (scratch / "space.yaml").write_text(json.dumps(SPACE))
        command = [sys.executable, "-c", "from tests.benchmarks import overhead; overhead.drive()"]
        command += [str(scratch / "told.json"), str(concurrency), "--trials", str(trials), "--name", "free"]
        command += ["--space", str(scratch / "space.yaml"), "--sampler", "tpe", "--dataset", "shapes"]
        command += ["--gpus-per-trial", "0", "--concurrency", str(concurrency)]
        command += ["--store", str(scratch / "store"), "--results", str(scratch / "results")]
        began = time.time()
        _call(command)
        ended = time.time()
        told = json.loads((scratch / "told.json").read_text())
        folder = Folder(scratch / "results" / "free")
        results = [record.result or {} for record in folder.read_records(folder.read_study().space)]
    first = min(result["at"] for result in results)
    worker_kb = max(result["kb"] for result in results)
    marks = [Mark(*mark) for mark in told["marks"]]
    return Run(concurrency, began, ended, first, told["workers"], worker_kb, marks)


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")


def drive() -> None:
    """Be `study.run` with trials that cost nothing; before its arguments, a file for what to tell, and the CPUs."""
    from ray.air.execution._internal import RayActorManager

    import study.search.tuning
    from study.run import main

    marks: list[tuple[float, float, int]] = []
    workers: list[Any] = []
    write, ask = Folder.write_record, RayActorManager.add_actor

    def write_and_mark(folder: Folder, record: Record) -> None:
        write(folder, record)
        if record.state == COMPLETE:
            marks.append((time.time(), time.process_time(), getrusage(RUSAGE_SELF).ru_maxrss))

    def ask_and_count(manager: Any, *arguments: Any, **named: Any) -> Any:
        workers.append(ask(manager, *arguments, **named))
        return workers[-1]

    place, cpus = Path(sys.argv.pop(1)), int(sys.argv.pop(1))
    machine.cpus = lambda: cpus
    Folder.write_record = write_and_mark  # type: ignore[method-assign, assignment]
    RayActorManager.add_actor = ask_and_count
    study.search.tuning.evaluate = free  # type: ignore[attr-defined]
    code = main()
    place.write_text(json.dumps({"marks": marks, "workers": len(workers)}))
    sys.exit(code)


def free(job: Any, config: dict[str, Any], report: Any) -> None:
    """A trial that costs nothing."""
    if "torch" in sys.modules:
        raise RuntimeError("the worker has loaded torch")
    found = {**_result(config), "at": time.time(), "kb": getrusage(RUSAGE_SELF).ru_maxrss}
    report({"result": json.dumps(found)})


def _result(config: dict[str, Any]) -> dict[str, Any]:
    """As large as a real one of ten epochs; the gain hangs on the config."""
    epoch = dict.fromkeys(("loss", "accuracy", "validation_loss", "validation_accuracy", "seconds"), 1 / 3)
    stage = {"epochs": [epoch] * 10, "best_epoch": 10, "stopped": "epochs", "seconds": 1 / 3, "seconds_reused": 0}
    stages = dict.fromkeys(("baseline", "gate", "artificial", "natural", "mixture"), stage)
    gain = random.Random(json.dumps(config)).gauss(0.01, 0.02)
    return {**config, **a_result(gain), "stages": stages}


def derived(records: int) -> str:
    """How long the commands take that make tables, database and figures from so many records."""
    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        folder = Folder(Path(name) / "free")
        _write(folder, parse("large", SPACE), records)
        begun = time.perf_counter()
        _call([sys.executable, "-m", "study.run", "--resume", "--name", "free", "--results", name])
        tables = time.perf_counter() - begun
        begun = time.perf_counter()
        _call([sys.executable, "-m", "study.analyze", str(folder.path)])
        figures = time.perf_counter() - begun
    return (
        f"{records} records: trials.csv, best.json, summary.md and study.db in {tables:.1f} s (study.run --resume), "
        f"report and figures in {figures:.1f} s (study.analyze)"
    )


def _write(folder: Folder, space: Space, records: int) -> None:
    """The folder of a finished study."""
    folder.trials.mkdir(parents=True)
    draws = random.Random(0)
    ledger = Ledger(a_study(name="free", space=space, trials=records), [], lambda record: None)
    for _ in range(records):
        point = space.at(draws.randrange(space.size))
        record = ledger.start(point, ledger.next_replicate(point))
        ledger.complete(record.trial, _result(record.config))
    for record in ledger.records.values():
        folder.write_record(record)
    folder.write_study(ledger.study, {})


if __name__ == "__main__":
    main()
