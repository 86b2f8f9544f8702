"""How many image passes a study takes as it grows, here and in the plain peer: simulated, nothing is trained.

    python -m tests.benchmarks.replay [--trials 200] [--space full] [--studies 5]

The study's own searcher (TPE) proposes configs to a simulated objective, that of `tests.benchmarks.samplers` with 1
point of noise, and what the trials take is counted: if every stage trains to its last epoch, and if each stops by
itself after 10 or 5. The objective knows nothing of that, and the peer stops where we do. Figures are medians over the
studies (lowest–highest). Both subgates together take an eighth of a small VGG's arithmetic, so a column compares the
passes through VGGs by themselves.
"""

import argparse
from typing import Any

import optuna

from moe.config import FLOAT32, HOLDOUT, Config
from study.search.ledger import Ledger
from study.search.stopping import Stop
from study.space import Space, read
from study.study import Study
from tests.benchmarks.passes import assumed, table
from tests.benchmarks.report import circumstances
from tests.benchmarks.samplers import NOISE, World
from tests.study_helpers import a_result, silent

STOPS = (None, 10, 5)  # epochs after which every stage stops


def main() -> None:
    """Simulate and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="of each study (default: %(default)s)")
    parser.add_argument("--space", default="full", help="a preset or a YAML file (default: %(default)s)")
    parser.add_argument("--studies", type=int, default=5, help="with seeds from 0 (default: %(default)s)")
    asked = parser.parse_args()
    here = circumstances()
    try:
        print(replay(read(asked.space, HOLDOUT), asked.trials, asked.studies))
    except ValueError as error:
        raise SystemExit(f"{parser.prog}: {error}") from None
    print(f"\n{here}")


def searched(space: Space, trials: int, seed: int) -> list[Config]:
    """The configs of a simulated study, in order: its searcher, ledger and seeds are the real ones."""
    from study.search.searcher import StudySearch  # loads Ray

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    world = World(space, NOISE[0], seed)
    data: dict[str, Any] = {"dataset": "none", "data": "none", "source": "none", "data_folder": None}
    how: dict[str, Any] = {"objective": "gain", "sampler": "tpe", "protocol": HOLDOUT, "precision": FLOAT32}
    study = Study(name="replay", space=space, seed=seed, trials=trials, **how, **data)
    ledger = Ledger(study, [], lambda record: None)
    searcher = StudySearch(ledger, silent(ledger), Stop(), concurrency=1)
    configs = []
    for number in map(str, range(trials)):
        suggestion = searcher.suggest(number)
        assert isinstance(suggestion, dict)
        configs.append(Config(**suggestion["config"]))
        gain = world.observe(space.position(space.point(configs[-1]))) / 100
        searcher.on_trial_result(number, {"result": a_result(gain, configs[-1]).model_dump_json()})
        searcher.on_trial_complete(number)
    return configs


def replay(space: Space, trials: int, studies: int) -> str:
    """Tables of the passes of simulated studies."""
    if trials < 4:
        raise ValueError(f"--trials is {trials}; expected 4 or more")
    if studies < 1:
        raise ValueError(f"--studies is {studies}; expected 1 or more")
    if len(space.grids) < 2:
        raise ValueError(f"space {space.name} searches {len(space.grids)} fields; expected 2 or more for a simulation")
    searches = [searched(space, trials, seed) for seed in range(studies)]
    lines = [f"{studies} simulated studies of {trials} trials by tpe in space {space.name} ({space.size} points)"]
    for stop in STOPS:
        lines.append(f"\nEvery stage stops after {stop} epochs" if stop else "\nEvery stage trains to its last epoch")
        simulated = [[assumed(config, stop) for config in configs] for configs in searches]
        lines.append(table(simulated))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
