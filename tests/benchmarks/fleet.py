"""What a driver does for a thousand workers, without the workers and without Ray.

    python -m tests.benchmarks.fleet [--trials 2000] [--at-once 1000] [--samplers tpe qmc random grid] [--rounds 3]

In place of Tune a loop calls the study's searcher: it asks for a trial for each free worker, and once all have one,
tells it that the oldest has ended and asks for the next. All else is the driver's own: sampler, ledger, records on disk
with the folder's lock, tables and database that grow. A trial costs nothing and reports its end alone, with a result as
large as a real one. Printed are median (least–most) over the rounds:

    fill       seconds to propose the first trial of every worker
    propose    milliseconds to propose one after that, of wall time
    end        milliseconds to record a trial's end and tell the sampler
    trials/s   trials that one driver serves in a second, while all workers have one
    growth     time of both in the last tenth of the trials after the first `at-once`, against the first tenth of these
    driver MB  the most memory
"""

import argparse
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections import deque
from contextlib import redirect_stdout
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

from moe.config import Config
from study.analyze.live import LiveTables
from study.folder import Folder
from study.search.ledger import Ledger
from study.search.progress import Progress
from study.search.searcher import StudySearch
from study.search.stopping import Stop
from study.space import parse
from study.study import Record, Run, now
from tests.benchmarks.overhead import SPACE, a_result_of
from tests.benchmarks.report import circumstances, spread
from tests.study_helpers import a_study

Figures = dict[str, float]


def main() -> None:
    """Run every sampler, round after round, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=1000)
    parser.add_argument("--samplers", nargs="+", default=["tpe", "qmc", "random", "grid"])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    here = circumstances()
    found: dict[str, list[Figures]] = {sampler: [] for sampler in asked.samplers}
    for _ in range(asked.rounds):
        for sampler, rounds in found.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:  # so that its memory is that of one study
                rounds.append(pool.apply(serve, (sampler, asked.trials, asked.at_once)))
            print(sampler, json.dumps(rounds[-1]), file=sys.stderr, flush=True)
    names = list(next(iter(found.values()))[0])
    rows = [["sampler", *names], ["---"] * (1 + len(names))]
    rows += [
        [sampler, *(spread([each[name] for each in rounds]) for name in names)] for sampler, rounds in found.items()
    ]
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))
    print(f"\n{asked.trials} trials, {asked.at_once} at once; {here}")


def serve(sampler: str, trials: int, at_once: int) -> Figures:
    """One study of trials that cost nothing; what its driver took."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        folder = Folder(Path(name) / "fleet")
        study = a_study(name="fleet", space=parse("large", SPACE), trials=trials, sampler=sampler)
        with folder.locked():
            folder.write_study(study, Run(started=now(), command="", commit=None, versions={}, store="none"))
            tables = LiveTables(folder, study, [])

            def save(record: Record) -> None:
                folder.write_record(record)
                tables.add(study, record)

            ledger = Ledger(study, [], save)
            searcher = StudySearch(ledger, Progress(ledger, terminal=False), Stop(), at_once)
            try:
                with open(os.devnull, "w") as printed, redirect_stdout(printed):
                    return _serve(searcher, trials, at_once)
            finally:
                tables.close()


def _serve(searcher: StudySearch, trials: int, at_once: int) -> Figures:
    running: deque[tuple[str, Config]] = deque()
    proposed, ended = [], []

    def propose() -> None:
        began, identity = time.perf_counter(), str(len(proposed))
        given = searcher.suggest(identity)
        proposed.append(time.perf_counter() - began)
        if isinstance(given, dict):
            running.append((identity, Config(**given["config"])))

    while len(proposed) < min(trials, at_once):
        propose()
    fill, began, wall = sum(proposed), time.perf_counter(), math.inf
    while running:
        identity, config = running.popleft()
        row = {"result": a_result_of(config).replace(data=searcher.ledger.study.data).model_dump_json()}
        start = time.perf_counter()
        searcher.on_trial_result(identity, row)
        searcher.on_trial_complete(identity, row)
        ended.append(time.perf_counter() - start)
        if len(proposed) < trials:
            propose()
            wall = time.perf_counter() - began
    later = [one + other for one, other in zip(proposed[at_once:], ended, strict=False)]
    tenth = max(1, len(later) // 10)
    return {
        "fill s": fill,
        "propose ms": 1000 * sum(proposed[at_once:]) / max(1, trials - at_once),
        "end ms": 1000 * sum(ended) / len(ended),
        "trials/s": len(later) / wall,
        "growth": sum(later[-tenth:]) / sum(later[:tenth]) if later else 1.0,
        "driver MB": getrusage(RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
