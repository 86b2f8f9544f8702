"""Workers without Ray that run one study together and are killed: what is lost, and whether Ray finds the same.

    python -m tests.benchmarks.chaos_workers [--data DIR] [--kills 30] [--workers 4] [--seed 0]

Every point of a space is run twice, each time with an empty store: under Ray, undisturbed, and by so many workers, of
which one after the other is killed at a random moment, start-up included, and replaced; three in ten are interrupted
instead. A study that is done before all kills are spent begins anew. Exit code 1 if a finished record was changed or
lost, if the trials are not the same as Ray's in config, seed and scores, or if a worker ended otherwise than it should.
"""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from moe.console import Exit
from tests.benchmarks.chaos_study import SPACE, Count, Scene, arguments, changes, repeat, run, undisturbed

AS_WORKER = ("--worker", "--cpus-per-trial", "1")
WAITS_S = (0.0, 16.0)  # from one kill to the next: a trial whose worker dies three times has failed
INTERRUPTED_SHARE = 0.3  # of the kills that are a SIGTERM
HANG_S = 240.0  # for a study to end after the last kill


class WorkerCount(Count):
    """What happened."""

    def __str__(self) -> str:
        kills = ", ".join(f"{name} {times}" for name, times in sorted(self.kills.items()))
        codes = ", ".join(f"{code}: {times}" for code, times in sorted(self.codes.items()))
        faults = "".join(f"\n  {fault}" for fault in self.wrong)
        ended = f"{self.studies} studies finished; {len(self.wrong)} faults{faults}"
        return f"{self.kills.total()} kills ({kills}); workers ended with {codes}; {ended}"


def disturbed(scene: Scene, kills: Sequence[str], workers: int, draw: random.Random, count: Count) -> None:
    """A study to its end, of whose workers one after the other is killed and replaced, until `kills` is spent."""
    scene.begin()
    running = [scene.start(*AS_WORKER) for _ in range(workers)]
    finished: dict[str, bytes] = {}
    for kill in kills:
        time.sleep(draw.uniform(*WAITS_S))
        if all(worker.poll() is not None for worker in running):
            break
        victim = running.pop(draw.randrange(workers))
        sent = signal.Signals[kill]
        victim.send_signal(sent)
        count.kills[kill] += 1
        may = {-sent, Exit.DONE} | ({Exit.INTERRUPTED} if sent == signal.SIGTERM else set())
        _ended(victim, may, scene, count)
        running.append(scene.start(*AS_WORKER))
        finished = _kept(scene, finished, count)
    for worker in running:
        _ended(worker, {Exit.DONE}, scene, count)
    _kept(scene, finished, count)
    count.studies += 1


def _ended(worker: subprocess.Popen[bytes], expected: set[int], scene: Scene, count: Count) -> None:
    """Wait for a worker's end, and see how it came."""
    try:
        code = worker.wait(HANG_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        count.wrong.append(f"a worker has not ended within {HANG_S:.0f} s")
        return
    count.codes[code] += 1
    if code not in expected:
        count.wrong.append(f"a worker ended with {code}; expected one of {sorted(map(int, expected))}:\n{scene.tail()}")


def _kept(scene: Scene, before: dict[str, bytes], count: Count) -> dict[str, bytes]:
    """The finished records, of which those from before have to be as they were."""
    now = scene.finished()
    count.wrong += changes(before, now)
    return now


def chaos(
    home: Path, words: Sequence[str], kills: Sequence[str], workers: int, seed: int, emit: Callable[[str], None]
) -> Count:
    """Compare studies by workers, until all kills are spent, with one under Ray that is not disturbed."""
    (home / "space.yaml").write_text(SPACE)
    scene, count, draw = Scene(home, tuple(words)), WorkerCount(), random.Random(seed)
    expected = undisturbed(scene)
    emit(f"under Ray: {len(expected)} trials")
    return repeat(scene, expected, kills, lambda left: disturbed(scene, left, workers, draw, count), count, emit)


def main() -> int:
    """Run it and print what happened; the exit code."""
    parser = arguments(__doc__)
    parser.add_argument("--workers", type=int, default=4, help="default: %(default)s")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    kills = ["SIGTERM" if draw.random() < INTERRUPTED_SHARE else "SIGKILL" for _ in range(options.kills)]
    return run(options, lambda home, words, emit: chaos(home, words, kills, options.workers, options.seed, emit))


if __name__ == "__main__":
    sys.exit(main())
