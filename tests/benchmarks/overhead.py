"""What a study costs by itself: trials that cost nothing, under the command that a person runs.

    python -m tests.benchmarks.overhead [--trials 10 100 1000] [--concurrency 2 16 64] [--rounds 5]

Each run is `python -m study.run` in a process of its own: its Ray, its searcher (TPE over 14,400 points), its ledger,
records on disk, tables at the end. Only the training is left out: a trial reports its end at once, with a result as
large as a real one, and fails if its process has loaded torch. There are as many CPUs as trials at once, in Ray's
books; how many there really are is printed, and workers start and answer no faster than those let them. In turn with
the runs of the first concurrency go runs of the plainest program for the same: Tune, OptunaSearch, a function that
reports a number. All runs are done once, then all again, round after round; printed are median (least–most).

    first      seconds from the start of the command until a worker has the first trial
    wall, CPU  milliseconds per trial, from the end of the first trial to that of the last; CPU is the driver's, all of
               its threads
    workers    how many the driver asked Ray for; as many as trials at once would do
    growth     CPU per trial in the last tenth of the trials, against the tenth that comes after the first ones of as
               many workers as there are; where there are 100 trials after those
    driver     the driver's most memory before the tables, and by how much it grows with each trial
    worker     the most memory of any worker
    rest       seconds from the last trial's end to that of the command: Ray's end, tables, database
"""

import argparse
import itertools
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

from moe.config import Config
from moe.result import Epoch, Result, StageResult
from study.folder import Folder
from study.study import COMPLETE, Record
from tests.benchmarks.report import circumstances, spread
from tests.study_helpers import a_result

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
OURS, PLAIN = "study.run", "plain Tune"

Case = tuple[str, int, int]  # program, trials, trials at once
Figures = dict[str, float]  # what was measured, by its name and unit


@dataclass(frozen=True)
class Mark:
    """The driver once it has written down a trial's end."""

    at: float  # seconds since 1970
    cpu: float  # seconds that the driver has used
    kb: int  # the most memory that it has had


@dataclass(frozen=True)
class Run:
    """When a run did what, in seconds since 1970, and what it took."""

    began: float
    ended: float
    first: float  # when a worker had the first trial
    marks: Sequence[Mark]
    worker_kb: int
    workers: int

    def figures(self, concurrency: int) -> Figures:
        """What is told of it."""
        marks = self.marks
        steps = max(1, len(marks) - 1)
        wall, cpu = (1000 * (getattr(marks[-1], name) - getattr(marks[0], name)) / steps for name in ("at", "cpu"))
        return {
            "first s": self.first - self.began,
            "wall ms": wall,
            "CPU ms": cpu,
            "growth": self._growth(concurrency),
            "workers": self.workers,
            "driver MB": marks[-1].kb / 1024,
            "KB a trial": (marks[-1].kb - marks[0].kb) / steps,
            "worker MB": self.worker_kb / 1024,
            "rest s": self.ended - marks[-1].at,
        }

    def _growth(self, concurrency: int) -> float:
        cpu = [mark.cpu for mark in self.marks[concurrency:]]
        if len(cpu) <= LEAST_FOR_GROWTH:
            return math.nan
        tenth = len(cpu) // 10
        return (cpu[-1] - cpu[-1 - tenth]) / (cpu[tenth] - cpu[0])


def main() -> None:
    """Run all, round after round, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[2, 16, 64])
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    here = circumstances()
    cases = [(OURS, *case) for case in itertools.product(asked.trials, asked.concurrency)]
    cases += [(PLAIN, trials, asked.concurrency[0]) for trials in asked.trials]
    found: dict[Case, list[Figures]] = {case: [] for case in cases}
    for number in range(1, asked.rounds + 1):
        for case in sorted(cases, key=lambda case: case[1:]):  # ours beside the plain one
            found[case].append(run(*case).figures(case[2]))
            told = ", ".join(f"{name} {value:.1f}" for name, value in found[case][-1].items())
            print(f"round {number}: {' '.join(map(str, case))}: {told}", file=sys.stderr, flush=True)
    print("\n".join([table(found), "", *ratios(found)]))
    print(f"\n{here}")


def table(found: Mapping[Case, Sequence[Figures]]) -> str:
    """A row for each case; its first cells say which."""
    names = list(next(iter(found.values()))[0])
    rows = [["", "trials", "at once", *names], ["---"] * (3 + len(names))]
    for case, runs in found.items():
        values = [[figures[name] for figures in runs] for name in names]
        rows.append([*map(str, case), *("-" if math.isnan(each[0]) else spread(each) for each in values)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def ratios(found: Mapping[Case, Sequence[Figures]]) -> Iterator[str]:
    """Ours over the plain one, round by round."""
    for (program, trials, concurrency), plain in found.items():
        if program == PLAIN:
            pairs = list(zip(found[OURS, trials, concurrency], plain, strict=True))
            told = [
                f"{name} {spread([ours[name] / theirs[name] for ours, theirs in pairs])}"
                for name in ("first s", "wall ms", "CPU ms")
            ]
            yield f"{OURS} / {PLAIN}, {trials} trials, {concurrency} at once: {', '.join(told)}"


def run(program: str, trials: int, concurrency: int) -> Run:
    """One study of trials that cost nothing."""
    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        scratch = Path(name)
        make = _ours if program == OURS else _plain
        command = make(scratch, trials, concurrency)
        began = time.time()
        call(command)
        ended = time.time()
        told = json.loads((scratch / "told.json").read_text())
    first = min(result["at"] for result in told["results"])
    worker_kb = max(result["kb"] for result in told["results"])
    return Run(began, ended, first, [Mark(*mark) for mark in told["marks"]], worker_kb, told["workers"])


def _ours(scratch: Path, trials: int, concurrency: int) -> list[str]:
    (scratch / "space.yaml").write_text(json.dumps(SPACE))
    command = [sys.executable, "-c", "from tests.benchmarks import overhead; overhead.drive()"]
    command += [
        str(scratch / "told.json"),
        str(concurrency),
        "--trials",
        str(trials),
        "--name",
        "free",
        "--refine",
        "0",
    ]
    command += ["--space", str(scratch / "space.yaml"), "--sampler", "tpe", "--dataset", "shapes"]
    command += ["--gpus-per-trial", "0", "--concurrency", str(concurrency)]
    return [*command, "--store", str(scratch / "store"), "--results", str(scratch / "results")]


def _plain(scratch: Path, trials: int, concurrency: int) -> list[str]:
    settings = ["RAY_USAGE_STATS_ENABLED=0", "RAY_AIR_NEW_OUTPUT=0", "RAY_AUTH_MODE=disabled"]
    command = ["env", *settings, sys.executable, "-m", "tests.benchmarks.plain"]
    return [*command, str(scratch / "told.json"), str(trials), str(concurrency)]


def call(command: list[str]) -> None:
    """Run a command; what it printed ends the benchmark if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")


def drive() -> None:
    """Be `study.run` with trials that cost nothing; before its arguments come a file for the figures, and the CPUs."""
    from ray.air.execution._internal import RayActorManager  # private: the one place where a worker is asked for

    import study.driver
    import study.search.tune
    from study.run import main
    from study.search.searcher import StudySearch

    marks: list[Sequence[float]] = []
    workers: list[Any] = []
    results: list[dict[str, float]] = []
    write, add_actor, on_trial_result = Folder.write_record, RayActorManager.add_actor, StudySearch.on_trial_result

    def write_and_mark(folder: Folder, record: Record) -> None:
        write(folder, record)
        if record.state == COMPLETE:
            marks.append(mark())

    def add_and_count(manager: Any, *arguments: Any, **named: Any) -> Any:
        workers.append(add_actor(manager, *arguments, **named))
        return workers[-1]

    def pass_on(searcher: StudySearch, trial_id: str, row: dict[str, Any]) -> None:
        results.append({name: row[name] for name in ("at", "kb")})
        on_trial_result(searcher, trial_id, row)

    place, cpus = Path(sys.argv.pop(1)), int(sys.argv.pop(1))
    study.search.resources.cpus = lambda: cpus
    Folder.write_record = write_and_mark  # type: ignore[method-assign, assignment]
    RayActorManager.add_actor = add_and_count
    StudySearch.on_trial_result = pass_on  # type: ignore[method-assign]
    study.search.tune.evaluate = study.search.tune.refer = free  # type: ignore[attr-defined]
    study.driver.wanted_references = lambda study, records: []  # type: ignore[attr-defined]
    code = main()
    place.write_text(json.dumps({"marks": marks, "workers": len(workers), "results": results}))
    sys.exit(code)


def mark() -> Sequence[float]:
    """What a `Mark` is made of, now."""
    return time.time(), time.process_time(), getrusage(RUSAGE_SELF).ru_maxrss


def free(job: Any, config: Config, send: Any) -> None:
    """A trial that costs nothing."""
    if "torch" in sys.modules:
        raise RuntimeError("the worker has loaded torch")
    result = a_result_of(config).replace(data=job.data).model_dump_json()
    send({"result": result, "at": time.time(), "kb": getrusage(RUSAGE_SELF).ru_maxrss})


def a_result_of(config: Config) -> Result:
    """A result as large as a real one of ten epochs; the gain depends on the config."""
    metrics = dict.fromkeys(("loss", "accuracy", "validation_loss", "validation_accuracy", "seconds"), 1 / 3)
    stage = StageResult(
        epochs=(Epoch(**metrics),) * 10,
        best_epoch=10,
        stopped="epochs",
        parameters=1_000_000,
        epochs_trained=10,
        epochs_reused=0,
        seconds=1 / 3,
        seconds_reused=0.0,
    )
    stages = dict.fromkeys(("baseline", "gate", "artificial", "natural", "mixture"), stage)
    gain = random.Random(json.dumps(config.as_json())).gauss(0.01, 0.02)
    return a_result(gain, config).replace(stages=stages)


if __name__ == "__main__":
    main()
