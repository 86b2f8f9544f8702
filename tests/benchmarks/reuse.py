"""What a study costs here and with the plain peer: wall time, epochs trained and image passes.

    python -m tests.benchmarks.reuse --data DIR [--trials 8] [--space NAME|FILE]    run ours, then the peer
    python -m tests.benchmarks.reuse --study results/NAME --peer-trials 5           run the peer alone, on a part
    python -m tests.benchmarks.reuse --study results/NAME --peer-trials 0           run neither, count passes
    python -m tests.benchmarks.reuse --replay 200 [--space full] [--seeds 5]        the same of simulated studies

Ours is `python -m study.run` with an empty store; the peer gets the same configs and seeds in the same order, and runs
one trial at a time in float32 on all CPUs. They run in turn, each in processes of its own, whose start counts; let
nothing else run meanwhile. The time of a recorded study is that from its first trial's start to its last one's end.

A replay lets the study's own searcher (TPE) propose configs to a simulated objective, that of
`tests.benchmarks.samplers` with 1 point of noise, and counts what the trials take: if every stage trains to its last
epoch, and if each stops by itself after 10 or 5. The objective knows nothing of that, and the peer stops where we do.
Figures are medians over the studies (lowest–highest). Both subgates together take an eighth of a small VGG's
arithmetic, so a column compares the passes through VGGs by themselves.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import optuna

from moe.config import FLOAT32, HOLDOUT, Config
from moe.numerics import available_devices, device_name
from study import machine
from study.ledger import Ledger
from study.records import COMPLETE, Folder, FolderError, Record, Study
from study.space import Space, read
from study.stopping import Stop
from tests.benchmarks.passes import Trial, assumed, from_records, ours, peers, spread, table
from tests.benchmarks.peer import run_study
from tests.benchmarks.samplers import NOISE, World

SMALL = {  # both programs take minutes on two CPU cores
    "epochs": [1, 2, 3],
    "train_examples": [500, 1000],
    "test_examples": 500,
    "use_large_experts": [False, True],
    "use_large_gating_mlp": [False, True],
    "use_large_baseline_classifier": [False, True],
}
STOPS = (None, 10, 5)  # epochs after which every stage stops in a replay

Row = dict[str, Any]


@dataclass(frozen=True)
class Past:
    """A study that was run with an empty store."""

    study: Study
    records: list[Record]  # of the complete trials, in the order in which they ran
    seconds: float
    meaning: str  # of the seconds

    @property
    def trials(self) -> list[Trial]:
        return from_records(self.records)

    @property
    def score_examples(self) -> int:
        return self.study.space.score_examples()

    def found(self, name: str) -> Any:
        """What the first trial's result has under that name; all have the same device and threads."""
        return (self.records[0].result or {})[name]

    @property
    def oddity(self) -> str:
        """Where it did not train exactly the epochs that its trials need together, both numbers."""
        trained = sum(int(record.result["epochs_trained"]) for record in self.records if record.result)
        needed = ours(self.trials, self.score_examples, reuse=True).epochs
        return f"{trained} epochs were trained; expected {needed}, as with an empty store" if trained != needed else ""


def main() -> None:
    """Compare, or replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with CIFAR-10")
    parser.add_argument("--trials", type=int, default=8, help="default: 8")
    parser.add_argument("--space", help="a preset or a YAML file (default: a small one; full for a replay)")
    parser.add_argument("--study", type=Path, help="a finished study in place of ours, begun with an empty store")
    parser.add_argument("--peer-trials", type=int, metavar="K", help="run the peer on K trials, and estimate the rest")
    parser.add_argument("--replay", type=int, metavar="N", help="simulate studies of N trials and count their passes")
    parser.add_argument("--seeds", type=int, default=5, help="how many simulated studies (default: 5)")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    try:
        if asked.replay:
            print(replay(read(asked.space or "full", HOLDOUT), asked.replay, asked.seeds))
        else:
            past = recorded(asked.study, asked.data) if asked.study else fresh(asked.space, asked.trials, asked.data)
            print(comparison(past, sample(len(past.records), asked.peer_trials)))
    except (FolderError, ValueError) as error:
        raise SystemExit(f"{parser.prog}: {error}") from None
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions().items())
    print(
        f"\n{machine.cpus()} CPUs, {machine.gpus()} GPUs, a load of {load:.1f} before this began; {versions}; "
        f"commit {machine.commit()}"
    )


def fresh(space: str | None, trials: int, data: Path | None) -> Past:
    """Run a study as the command does; what it prints goes to stderr."""
    with tempfile.TemporaryDirectory(prefix="reuse-") as folder:
        scratch = Path(folder)
        (scratch / "small.yaml").write_text(json.dumps(SMALL))
        command = [sys.executable, "-m", "study.run", "--sampler", "tpe", "--name", "ours"]
        command += ["--trials", str(trials), "--space", space or str(scratch / "small.yaml")]
        command += ["--store", str(scratch / "store"), "--results", str(scratch / "results")]
        command += ["--data", str(data)] if data else []
        began = time.perf_counter()
        done = subprocess.run(command, stdout=sys.stderr, check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"study.run ended with exit code {done.returncode}")
        return Past(*_complete(scratch / "results" / "ours"), seconds, "the whole command")


def recorded(path: Path, data: Path | None = None) -> Past:
    """A study as it was recorded.

    Args:
        path: its folder.
        data: where its data are now, if they were moved.

    Raises:
        FolderError: there is none.
        ValueError: it was not run with an empty store, or on another kind of device.
    """
    study, records = _complete(path.resolve())
    study = replace(study, data_folder=str(data)) if data else study
    began = min(datetime.fromisoformat(record.started) for record in records)
    ended = max(datetime.fromisoformat(str(record.ended)) for record in records)
    past = Past(study, records, (ended - began).total_seconds(), "first trial's start to last one's end")
    if past.found("device") != (here := device_name(available_devices()[0])):
        raise ValueError(f"{path} was run on {past.found('device')}; expected {here}, where the peer would run")
    if past.oddity:
        raise ValueError(f"{path}: {past.oddity} and no failed trial")
    return past


def _complete(path: Path) -> tuple[Study, list[Record]]:
    study = Folder(path).read_study()
    records = [record for record in Folder(path).read_records(study.space) if record.state == COMPLETE]
    if not records:
        raise ValueError(f"{path} has no complete trial; expected one or more")
    return study, records


def sample(trials: int, part: int | None) -> list[int]:
    """The places of so many trials, drawn with a fixed seed; all of them by default.

    Raises:
        ValueError: there are not so many.
    """
    if part is not None and not 0 <= part <= trials:
        raise ValueError(f"--peer-trials is {part}; expected 0 to {trials}, the trials that there are")
    return sorted(random.Random(0).sample(range(trials), trials if part is None else part))


def comparison(past: Past, chosen: Sequence[int]) -> str:
    """Run the peer on the chosen trials, if any, and put it all together."""
    title = (
        f"{len(past.records)} trials of {past.study.space.name} ({past.study.space.size} points); "
        f"{past.study.source}; {past.found('device')}, {past.found('threads')} threads a trial, {past.study.precision}"
    )
    parts = [title, table([past.trials], past.score_examples)]
    if chosen:
        parts.append(compared(past, chosen, *_peer_study(past, chosen)))
    return "\n\n".join(parts)


def _peer_study(past: Past, chosen: Sequence[int]) -> tuple[list[Row], float]:
    """What the peer finds in the chosen trials, and its wall time, in a process of its own."""
    folder = Path(past.study.data_folder) if past.study.data_folder else None
    configs = [past.records[place].config for place in chosen]
    began = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        task = (configs, past.study.dataset, folder, past.score_examples, machine.cpus())
        found, _ = process.submit(run_study, *task).result()
    return found, time.perf_counter() - began


def compared(past: Past, chosen: Sequence[int], found: list[Row], wall: float) -> str:
    """What both took, from what the peer found in the chosen trials and its wall time."""
    trials, scored = past.trials, past.score_examples
    ran = [Trial(trials[place].config, row["epochs"], row["epochs"]) for place, row in zip(chosen, found, strict=True)]
    theirs, how = peers(ran, scored), "the whole process"
    assert theirs.passes == sum(row["passes"] for row in found)
    if len(chosen) < len(trials):
        numbers = ", ".join(str(past.records[place].trial) for place in chosen)
        took = sum(row["seconds"] for row in found)
        how = (
            f"ESTIMATED from {len(chosen)} of {len(trials)} trials ({numbers}): {took:,.0f} s for {theirs.passes:,} "
            "passes, times the passes of all\n      with the epochs that ours used; "
            "Ray's start and what passes between trials is left out"
        )
        rate, theirs = took / theirs.passes, peers(trials, scored)
        wall = rate * theirs.passes
    mine = ours(trials, scored, reuse=True)
    rates = [1e6 * row["seconds"] / row["passes"] for row in found]
    ratios = (wall / past.seconds, theirs.epochs / mine.epochs, theirs.passes / mine.passes)
    lines = [
        f"{'':<14}{'wall time':>12}{'epochs trained':>18}{'image passes':>16}",
        f"{'ours':<14}{past.seconds:>10,.0f} s{mine.epochs:>18,}{mine.passes:>16,}",
        f"{'peer':<14}{wall:>10,.0f} s{theirs.epochs:>18,}{theirs.passes:>16,}",
        f"{'peer / ours':<14}{ratios[0]:>12.2f}{ratios[1]:>18.2f}{ratios[2]:>16.2f}\n",
        f"ours: {'; '.join(filter(None, (past.meaning, past.oddity)))}",
        f"peer: {how}",
        f"seconds per million passes in the peer's trials: {spread(rates)}",
    ]
    return "\n".join(lines)


class _Unseen:
    """A display that shows nothing."""

    def started(self, record: Record) -> None: ...

    def progressed(self, number: int, stage: str, epoch: int, epochs: int) -> None: ...

    def warned(self, sentence: str) -> None: ...

    def ended(self, record: Record) -> None: ...


def searched(space: Space, trials: int, seed: int) -> list[Config]:
    """The configs of a simulated study, in order: its searcher, ledger and seeds are the real ones."""
    from study.search.searcher import StudySearch  # loads Ray

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    world = World(space, NOISE[0], seed)
    data: Row = {"dataset": "none", "data": "none", "source": "none", "data_folder": None}
    how: Row = {"objective": "gain", "sampler": "tpe", "protocol": HOLDOUT, "precision": FLOAT32}
    study = Study(name="replay", space=space, seed=seed, trials=trials, **how, **data)
    searcher = StudySearch(Ledger(study, [], lambda record: None), _Unseen(), Stop(), concurrency=1)
    configs = []
    for number in map(str, range(trials)):
        suggestion = searcher.suggest(number)
        assert isinstance(suggestion, dict)
        configs.append(Config(**suggestion["config"]))
        gain = world.observe(space.position(space.point(suggestion["config"]))) / 100
        searcher.on_trial_result(number, {"result": json.dumps({"gain": gain})})
        searcher.on_trial_complete(number)
    return configs


def replay(space: Space, trials: int, seeds: int) -> str:
    """Tables of the passes of simulated studies."""
    if trials < 4 or seeds < 1:
        raise ValueError(f"--replay is {trials} and --seeds {seeds}; expected 4 or more trials, 1 or more seeds")
    if len(space.grids) < 2:
        raise ValueError(f"space {space.name} searches {len(space.grids)} fields; expected 2 or more for a simulation")
    studies = [searched(space, trials, seed) for seed in range(seeds)]
    lines = [f"{seeds} simulated studies of {trials} trials by tpe in space {space.name} ({space.size} points)"]
    for stop in STOPS:
        lines.append(f"\nEvery stage stops after {stop} epochs" if stop else "\nEvery stage trains to its last epoch")
        simulated = [[assumed(config, stop) for config in configs] for configs in studies]
        lines.append(table(simulated, space.score_examples()))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
