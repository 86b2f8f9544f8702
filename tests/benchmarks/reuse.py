"""What a study costs here and with the plain peer: wall time, epochs trained and image passes.

    python -m tests.benchmarks.reuse --data DIR [--trials 8] [--space NAME|FILE] [--rounds 5]    ours and the peer
    python -m tests.benchmarks.reuse --data DIR --trials 50 --space notebook --peer-trials 1     the peer on a part
    python -m tests.benchmarks.reuse --study results/NAME            run nothing, count the passes of a finished study

Ours is `python -m study.run` with an empty store, from the start of the command to its end; the peer gets the same
configs and seeds in the same order, and runs one trial at a time in float32 on all CPUs. They run in turn, round after
round, each in processes of its own; let nothing else run meanwhile. The time of ours includes its references; their
epochs beyond what the trials need are not among the passes. Where the peer runs a part only, drawn anew in each round,
its time for all of them is estimated from its time per image pass: its start and what passes between its trials is
left out.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from moe.machine import cpus
from study.folder import Folder, FolderError
from study.study import COMPLETE, Record, Study
from tests.benchmarks.passes import Cost, Trial, from_records, ours, peers, table
from tests.benchmarks.peer import run_study
from tests.benchmarks.report import circumstances, spread

SMALL = {  # both programs take minutes on two CPU cores
    "epochs": [1, 2, 3],
    "train_examples": [500, 1000],
    "test_examples": 500,
    "use_large_experts": [False, True],
    "use_large_gating_mlp": [False, True],
    "use_large_baseline_classifier": [False, True],
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Past:
    """A study that was run with an empty store."""

    study: Study
    records: list[Record]  # of the complete trials, in the order in which they ran

    @property
    def trials(self) -> list[Trial]:
        return from_records(self.records)

    @property
    def cost(self) -> Cost:
        return ours(self.trials, reuse=True)

    @property
    def warning(self) -> str:
        """A sentence where it did not train exactly the epochs that its trials need together; else empty.

        Some of them were trained as references, before the trials.
        """
        trained = sum(record.done.totals.epochs_trained for record in self.records)
        needed, before = self.cost.epochs, sum(reference.config.epochs for reference in self.study.reference)
        if needed - before <= trained <= needed:
            return ""
        return f"{trained} epochs were trained; expected {needed}, as with an empty store"

    def __str__(self) -> str:
        first = self.records[0].done  # all have the same device
        how = f"{first.device}, {self.study.precision}"
        space = f"{self.study.space.name} ({self.study.space.size} points)"
        return f"{len(self.records)} trials of {space}; {self.study.source}; {how}"


@dataclass(frozen=True)
class Round:
    """What one study cost here and with the peer."""

    mine: Cost
    theirs: Cost
    my_seconds: float
    their_seconds: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join((f"ours {self.my_seconds:,.0f} s, peer {self.their_seconds:,.0f} s", *self.notes))


def main() -> None:
    """Compare, or count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with CIFAR-10")
    parser.add_argument("--trials", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--space", help="a preset or a YAML file (default: a small one)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--peer-trials", type=int, metavar="K", help="run the peer on so many of them (default: all)")
    parser.add_argument("--study", type=Path, help="a finished study, begun with an empty store")
    options = parser.parse_args()
    if options.study and options.peer_trials:
        parser.error("--study runs nothing; expected no --peer-trials with it")
    here = circumstances()
    try:
        if options.study:
            print(finished(options.study))
        else:
            sample(options.trials, options.peer_trials, 1)  # a wrong number is refused before anything runs
            print(compared(options.space, options.trials, options.data, options.peer_trials, options.rounds))
    except (FolderError, ValueError) as error:
        raise SystemExit(f"{parser.prog}: {error}") from None
    print(f"\n{here}")


def complete(path: Path) -> Past:
    """The complete trials of a study.

    Raises:
        FolderError: there is no study.
        ValueError: it has no complete trial.
    """
    study = Folder(path).read_study()
    records = [record for record in Folder(path).read_records(study) if record.state == COMPLETE]
    if not records:
        raise ValueError(f"{path} has no complete trial; expected one or more")
    return Past(study, records)


def counted(pasts: Sequence[Past]) -> str:
    """The image passes of one study or of several that are alike."""
    return f"{pasts[0]}\n\n{table([past.trials for past in pasts])}"


def finished(path: Path) -> str:
    """The image passes of the study in a folder.

    Raises:
        FolderError: there is none.
        ValueError: it was not begun with an empty store.
    """
    past = complete(path)
    if past.warning:
        raise ValueError(f"{path}: {past.warning} and no failed trial")
    return counted([past])


def compared(space: str | None, trials: int, data: Path | None, part: int | None, rounds: int) -> str:
    """Run so many rounds, print each, and summarize them."""
    done: list[Round] = []
    pasts: list[Past] = []
    for number in range(1, rounds + 1):
        past, seconds = fresh(space, trials, data)
        pasts.append(past)
        chosen = sample(len(past.records), part, number)
        done.append(compare_round(past, seconds, chosen, *_peer_study(past, chosen)))
        print(f"round {number}: {done[-1]}", file=sys.stderr, flush=True)
    return f"{counted(pasts)}\n\n{summary(done)}"


def fresh(space: str | None, trials: int, data: Path | None) -> tuple[Past, float]:
    """Run a study as the command does, and the seconds that it took; what it prints goes to stderr."""
    with tempfile.TemporaryDirectory(prefix="reuse-") as folder:
        scratch = Path(folder)
        (scratch / "small.yaml").write_text(json.dumps(SMALL))
        command = [sys.executable, "-m", "study.run", "--sampler", "tpe", "--name", "ours"]
        command += ["--trials", str(trials), "--refine", "0", "--space", space or str(scratch / "small.yaml")]
        command += ["--store", str(scratch / "store"), "--results", str(scratch / "results")]
        command += ["--data", str(data)] if data else []
        began = time.perf_counter()
        done = subprocess.run(command, stdout=sys.stderr, check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"study.run ended with exit code {done.returncode}")
        return complete(scratch / "results" / "ours"), seconds


def sample(trials: int, part: int | None, number: int) -> list[int]:
    """The places of so many trials, drawn for the round of that number; all of them by default.

    Raises:
        ValueError: there are not so many.
    """
    if part is not None and not 1 <= part <= trials:
        raise ValueError(f"--peer-trials is {part}; expected 1 to {trials}, the trials that there are")
    return sorted(random.Random(number).sample(range(trials), trials if part is None else part))


def _peer_study(past: Past, chosen: Sequence[int]) -> tuple[list[Row], float]:
    """What the peer finds in the chosen trials, and its wall time, in a process of its own."""
    folder = Path(past.study.data_folder) if past.study.data_folder else None
    configs = [past.records[place].config for place in chosen]
    began = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        task = (configs, past.study.dataset, folder, cpus())
        found, _ = process.submit(run_study, *task).result()
    return found, time.perf_counter() - began


def compare_round(past: Past, seconds: float, chosen: Sequence[int], found: list[Row], wall: float) -> Round:
    """A round, from what the peer found in the chosen trials and its wall time."""
    trials = past.trials
    ran = [Trial(trials[place].config, row["epochs"], row["epochs"]) for place, row in zip(chosen, found, strict=True)]
    theirs = peers(ran)
    assert theirs.passes == sum(row["passes"] for row in found)
    notes = (past.warning,) if past.warning else ()
    if len(chosen) == len(trials):
        return Round(past.cost, theirs, seconds, wall, notes)
    took = sum(row["seconds"] for row in found)
    whole = peers(trials)  # with the epochs that ours used
    numbers = ", ".join(str(past.records[place].trial) for place in chosen)
    rate = took / theirs.passes
    notes += (f"peer ESTIMATED from trials {numbers}: {took:,.0f} s, {1e6 * rate:,.0f} s per million passes",)
    return Round(past.cost, whole, seconds, rate * whole.passes, notes)


def summary(done: Sequence[Round]) -> str:
    """What the rounds took: the median of each figure, its least and its most."""
    rows = {
        "ours": [(one.my_seconds, one.mine.epochs, one.mine.passes) for one in done],
        "peer": [(one.their_seconds, one.theirs.epochs, one.theirs.passes) for one in done],
    }
    rows["peer / ours"] = [
        tuple(theirs / mine for mine, theirs in zip(*both, strict=True))
        for both in zip(rows["ours"], rows["peer"], strict=True)
    ]
    lines = [f"{'':<12}{'seconds':>24}{'epochs trained':>24}{'image passes':>40}"]
    for name, values in rows.items():
        seconds, epochs, passes = map(spread, zip(*values, strict=True))
        lines.append(f"{name:<12}{seconds:>24}{epochs:>24}{passes:>40}")
    return "\n".join([*lines, f"median (least–most) of {len(done)} rounds", *map(str, done)])


if __name__ == "__main__":
    main()
