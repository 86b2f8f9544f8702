"""The plainest study of trials that cost nothing: Ray Tune, OptunaSearch, a function that reports a number.

    python -m tests.benchmarks.plain TOLD.json TRIALS CONCURRENCY

It searches the space of `tests.benchmarks.overhead`, which runs it, and leaves in TOLD.json what that wants to know.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import optuna
import ray
from ray import tune
from ray.air.execution._internal import RayActorManager
from ray.tune.search.optuna import OptunaSearch

from tests.benchmarks.overhead import SPACE, mark


class Marks(tune.Callback):
    """Notes when the driver has seen the end of a trial."""

    def __init__(self) -> None:
        self.marks: list[Sequence[float]] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended."""
        self.marks.append(mark())


def free(config: dict[str, Any]) -> None:
    """A trial that costs nothing."""
    gain = random.Random(json.dumps(config)).gauss(0.01, 0.02)
    tune.report({"gain": gain, "at": time.time(), "kb": getrusage(RUSAGE_SELF).ru_maxrss})


def main() -> None:
    """Run the study."""
    place, trials, concurrency = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    told, workers, add_actor = Marks(), [], RayActorManager.add_actor

    def add_and_count(manager: Any, *arguments: Any, **named: Any) -> Any:
        workers.append(add_actor(manager, *arguments, **named))
        return workers[-1]

    RayActorManager.add_actor = add_and_count
    space = {name: tune.choice(value) if isinstance(value, list) else value for name, value in SPACE.items()}
    search = {"search_alg": OptunaSearch(sampler=optuna.samplers.TPESampler(seed=0)), "metric": "gain", "mode": "max"}
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as scratch:  # short: Ray's sockets lie below it
        ray.init("local", num_cpus=concurrency, _temp_dir=scratch, **quiet)
        try:
            results = tune.Tuner(
                tune.with_resources(free, {"cpu": 1}),
                param_space=space,
                tune_config=tune.TuneConfig(
                    num_samples=trials, max_concurrent_trials=concurrency, reuse_actors=True, **search
                ),
                run_config=tune.RunConfig(storage_path=f"{scratch}/tune", verbose=0, callbacks=[told]),
            ).fit()
        finally:
            ray.shutdown()
    found = [{name: result.metrics[name] for name in ("at", "kb")} for result in results]
    place.write_text(json.dumps({"marks": told.marks, "workers": len(workers), "results": found}))


if __name__ == "__main__":
    main()
