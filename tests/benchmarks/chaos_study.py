"""A whole study whose processes are killed one after the other: what is lost, and what comes out otherwise.

    python -m tests.benchmarks.chaos_study [--data DIR] [--kills 30] [--seed 0]

Every point of a space is run twice, each time with an empty store: undisturbed, and while the driver, workers, the
raylet, the head (GCS) and Ray's agents are killed, drawn at random, at start-up too. A study that ended so is resumed;
one that is done before all kills are spent begins anew. Exit code 1 if a finished record was changed or lost, if the
trials are not the same as the undisturbed study's in config, seed and scores, if a driver ended otherwise than done,
resumable or without a Ray, or hung, or if a process outlived its driver.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from moe.config import Config
from moe.console import Exit
from moe.schema import fields
from study.study import LOST
from tests.benchmarks.cluster import below
from tests.benchmarks.report import circumstances

SPACE = "epochs: [1, 2, 3]\ntrain_examples: [500, 1000, 1500]\ntest_examples: 500\nuse_large_experts: [false, true]\n"
ALWAYS = ("--max-failures", "1000", "--name", "x")
COMMON = ("--space", "space.yaml", "--trials", "all", "--refine", "0", *ALWAYS)
DRIVER, WORKER, RAYLET, HEAD, AGENT = KINDS = ("driver", "worker", "raylet", "head", "agent")
PROGRAMS = {"raylet": RAYLET, "gcs_server": HEAD}
WAITS_S = (3.0, 25.0)  # from a trial that runs to the next kill, at most: one of these, drawn; a trial takes 3 to 20
START_S = (0.5, 9.0)  # from the start of a driver to a kill at start-up
START_SHARE = 0.2  # of the kills that come at start-up
ENDS = (Exit.DONE, Exit.INTERRUPTED, Exit.ENVIRONMENT, -signal.SIGKILL)  # of drivers; 4: Ray died as it started
RAY_ENDS_US = "Worker will terminate"  # what Ray's library prints before it ends its own process, the driver
HANG_S = 240.0  # without a change in the records
GONE_S = 30.0
COSTS = ("trial", "started", "ended", "seconds", "seconds_reused", "epochs_trained", "epochs_reused")


@dataclass
class Count:
    """What happened."""

    kills: Counter[str] = field(default_factory=Counter)  # by kind, or whatever else happened
    codes: Counter[int] = field(default_factory=Counter)  # exit codes of drivers
    studies: int = 0  # that came to their end
    kept: int = 0  # finished records found unchanged after a driver ended
    lost: int = 0  # trials whose worker was killed
    wrong: list[str] = field(default_factory=list)

    def judge(self, scene: "Scene", before: dict[str, bytes], code: int) -> None:
        """Whether a driver ended as it may, and left the finished records as they were."""
        self.codes[code] += 1
        changed = changes(before, scene.records())
        self.kept += len(before) - len(changed)
        self.wrong += changed
        if code not in ENDS and not (code == 1 and RAY_ENDS_US in scene.tail()):
            self.wrong.append(f"a driver ended with {code}:\n{scene.tail()}")

    def __str__(self) -> str:
        kills = ", ".join(f"{kind} {self.kills[kind]}" for kind in KINDS)
        codes = ", ".join(f"{code}: {times}" for code, times in sorted(self.codes.items()))
        faults = "".join(f"\n  {fault}" for fault in self.wrong)
        return (
            f"{self.kills.total()} kills ({kills}); drivers ended with {codes}; {self.studies} studies finished, "
            f"{self.lost} trials lost their worker; {self.kept} times a finished record was there unchanged; "
            f"{len(self.wrong)} faults{faults}"
        )


@dataclass(frozen=True)
class Scene:
    """Where a study runs, and its command."""

    home: Path
    words: tuple[str, ...]
    waits_s: tuple[float, ...] = WAITS_S
    apart: bool = False  # whether each kill waits for one more finished trial than the kill before

    @property
    def folder(self) -> Path:
        """Of the study."""
        return self.home / "results" / "x"

    def begin(self) -> None:
        """Remove the study and its store."""
        for path in (self.folder, self.home / "stages"):
            shutil.rmtree(path, ignore_errors=True)

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        """A driver: the study's first one, or one that resumes it."""
        words = ("--resume", *ALWAYS) if (self.folder / "study.json").exists() else (*COMMON, *self.words)
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        ours = {"PYTHONPATH": path, "MOE_STORE": str(self.home / "stages")}
        with (self.home / "printed").open("ab") as printed:
            return subprocess.Popen(
                [sys.executable, "-m", "study.run", *words, *more],
                cwd=self.home,
                env={**os.environ, **ours},
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def tail(self) -> str:
        """The last lines that drivers printed."""
        return "\n".join((self.home / "printed").read_text(errors="replace").splitlines()[-15:])

    def records(self) -> dict[str, bytes]:
        """The study's records, by name of file."""
        found = {}
        for path in sorted((self.folder / "trials").glob("[0-9]*.json")):
            with suppress(FileNotFoundError):
                found[path.name] = path.read_bytes()
        return found

    def finished(self) -> dict[str, bytes]:
        """Those of complete trials."""
        return {name: content for name, content in self.records().items() if b'"state": "complete"' in content}


def table(folder: Path) -> pd.DataFrame:
    """A study's complete trials in the order of their configs, without what they cost."""
    trials = pd.read_csv(folder / "trials.csv").query("state == 'complete'")
    trials = trials.drop(columns=[name for name in COSTS if name in trials])
    return trials.sort_values([name for name in fields(Config) if name in trials]).reset_index(drop=True)


def victims(driver: int) -> dict[str, list[int]]:
    """The processes of a study by kind, as far as they run."""
    found: dict[str, list[int]] = {DRIVER: [driver]}
    for pid, command in below(driver):
        program = Path(command.split("\0")[0]).name
        if program in PROGRAMS:
            kind = PROGRAMS[program]
        elif "Agent" in command or "agent.py" in command:
            kind = AGENT
        elif command.startswith("ray::ImplicitFunc"):  # it runs trials; others are idle
            kind = WORKER
        else:
            continue
        found.setdefault(kind, []).append(pid)
    return found


def undisturbed(scene: Scene) -> pd.DataFrame:
    """The trials of a study that nothing happens to."""
    scene.begin()
    with scene.start() as driver:
        if driver.wait():
            raise SystemExit(f"the undisturbed study ended with {driver.returncode}:\n{scene.tail()}")
    return table(scene.folder)


def changes(before: dict[str, bytes], now: dict[str, bytes]) -> list[str]:
    """A sentence for each record that is not what it was."""
    return [
        f"the finished record {name} is {'changed' if name in now else 'lost'}"
        for name, content in before.items()
        if now.get(name) != content
    ]


def differences(expected: pd.DataFrame, scene: Scene) -> list[str]:
    """What a study's trials have other than an undisturbed one's."""
    try:
        pd.testing.assert_frame_equal(expected, table(scene.folder), check_dtype=False, check_exact=True)
    except (AssertionError, OSError) as error:
        return [f"the trials differ from the undisturbed study's: {error}\n{scene.tail()}"]
    return []


def disturbed(scene: Scene, kinds: list[str], draw: random.Random, count: Count, emit: Callable[[str], None]) -> None:
    """A study to its end: one process after the other is killed; what is left of `kinds` did not happen."""
    scene.begin()
    while True:
        before = scene.finished()
        with scene.start() as driver:
            family = _kill_below(driver, scene, kinds, draw, count)
            if driver.poll() is None:
                count.wrong.append(f"no record has changed for {HANG_S:.0f} s:\n{scene.tail()}")
                driver.kill()
        code = driver.returncode
        if left := _outliving(family):
            count.wrong.append(f"{len(left)} processes outlived a driver that ended with {code}")
        count.judge(scene, before, code)
        emit(str(count))
        if code == Exit.DONE or count.wrong:
            count.studies += code == Exit.DONE
            count.lost += sum(LOST.encode() in content for content in scene.records().values())
            return


def _kill_below(
    driver: subprocess.Popen[bytes], scene: Scene, kinds: list[str], draw: random.Random, count: Count
) -> set[int]:
    """Kill until the driver ends, or hangs; all processes that it was seen to have."""
    family: set[int] = set()
    changed, records = time.monotonic(), scene.records()
    due = changed + draw.uniform(*START_S) if draw.random() < START_SHARE else None  # else once a trial runs
    while driver.poll() is None and time.monotonic() - changed < HANG_S:
        time.sleep(0.1)
        found = victims(driver.pid)
        family.update(pid for pids in found.values() for pid in pids)
        if (now := scene.records()) != records:
            changed, records = time.monotonic(), now
        ready = not scene.apart or len(scene.finished()) >= count.kills.total()
        running = any(b'"state": "running"' in content for content in now.values())
        if due is None and ready and running and WORKER in found:
            due = time.monotonic() + draw.uniform(0.0, draw.choice(scene.waits_s))
        if kinds and due is not None and time.monotonic() >= due and kinds[0] in found:
            with suppress(ProcessLookupError):
                os.kill(draw.choice(found[kinds[0]]), signal.SIGKILL)
                count.kills[kinds.pop(0)] += 1
            due = None
    return family


def _outliving(family: set[int]) -> set[int]:
    """Which of these processes still run after a while."""
    end = time.monotonic() + GONE_S
    while (left := {pid for pid in family if _runs(pid)}) and time.monotonic() < end:
        time.sleep(0.2)
    return left


def _runs(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def chaos(home: Path, words: Sequence[str], kinds: Sequence[str], seed: int, emit: Callable[[str], None]) -> Count:
    """Compare studies that are disturbed until every one of `kinds` was killed with one that is not."""
    (home / "space.yaml").write_text(SPACE)
    scene, count, draw = Scene(home, tuple(words)), Count(), random.Random(seed)
    expected = undisturbed(scene)
    emit(f"undisturbed: {len(expected)} trials")
    return repeat(scene, expected, kinds, lambda left: disturbed(scene, left, draw, count, emit), count, emit)


def repeat(
    scene: Scene,
    expected: pd.DataFrame,
    kinds: Sequence[str],
    disturb: Callable[[list[str]], None],
    count: Count,
    emit: Callable[[str], None],
) -> Count:
    """Disturb one study after the other until every one of `kinds` has happened, or something is wrong."""
    while (spent := count.kills.total()) < len(kinds) and not count.wrong:
        disturb(list(kinds[spent:]))
        count.wrong += differences(expected, scene)
        if count.kills.total() == spent:
            count.wrong.append(f"a study ended before a {kinds[spent]} could happen to it")
        emit(str(count))
    return count


def arguments(what: str) -> argparse.ArgumentParser:
    """The options that all of these benchmarks have."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a folder with CIFAR-10 (default: the built-in shapes)")
    parser.add_argument("--kills", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def run(options: argparse.Namespace, disturb: Callable[[Path, tuple[str, ...], Callable[[str], None]], Count]) -> int:
    """Run one in a folder of its own and print what happened; the exit code."""
    words = ("--data", str(Path(options.data).resolve())) if options.data else ("--dataset", "shapes")
    here, began = circumstances(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        count = disturb(Path(folder), words, lambda text: print(text, flush=True))
    print(f"{time.monotonic() - began:.0f} s; {here}")
    return 1 if count.wrong else 0


def main() -> int:
    """Run it and print what happened; the exit code."""
    options = arguments(__doc__).parse_args()
    kinds = random.Random(options.seed).choices(KINDS, k=options.kills)
    return run(options, lambda home, words, emit: chaos(home, words, kinds, options.seed, emit))


if __name__ == "__main__":
    sys.exit(main())
