"""Which sampler finds the best config of the preset spaces when what it is told is noisy.

    python -m tests.benchmarks.samplers [--reps 40] [--quick]

Each repetition draws a world: a true gain for every config, near-additive with interactions of two fields,
smooth along numbers, sd 1 point over the configs. A trial sees the truth plus noise of 1 or 2 points. All
samplers meet the same worlds and the same noise. As in a study, the notebook's config comes first, a config
that was seen is told its mean again and another is asked for, and a sampler that insists, or has nothing new
left, gets a replicate. Regret is what the picked config lacks to the best one, in points; it is picked by the
largest observed mean, or by an additive ridge over all trials. The third column is the ridge's regret less
what it is with random, over the worlds that both met.
"""

import argparse
import itertools
import time
from dataclasses import dataclass, field

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState

from study.search.samplers import distributions, grid_order, make
from study.space import PRESETS, Space

TRIALS = {"notebook": 50, "full": 200}
WORLDS = {"notebook": 4, "full": 1}  # times --reps
NOISE = (1.0, 2.0)  # points
INSISTENCES = 5
INTERACTIONS = 0.2  # their share of the variance of true gains
SHRINKAGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
SLOW = {"gp"}  # gets a quarter of the repetitions

Floats = NDArray[np.float64]


@dataclass
class World:
    """A space whose true gains are known, and what its trials have seen of them."""

    space: Space
    noise: float
    seed: int
    seen: dict[int, list[float]] = field(default_factory=dict)  # position -> gains observed

    def __post_init__(self) -> None:
        points = np.array([list(point.values()) for point in self.space.points()])  # (configs, fields)
        self.truth = true_gains(points, np.random.default_rng((self.seed, 0)))
        self.features = one_hot(points)

    def observe(self, position: int) -> float:
        """One more trial of a config; the noise hangs on the world, the config and the count."""
        gains = self.seen.setdefault(position, [])
        draw = np.random.default_rng((self.seed, 1, position, len(gains))).standard_normal()
        gains.append(float(self.truth[position] + self.noise * draw))
        return gains[-1]

    def regret(self, position: int) -> float:
        return float(self.truth.max() - self.truth[position])

    def largest_mean(self) -> int:
        return max(self.seen, key=lambda position: np.mean(self.seen[position]))

    def smoothed(self) -> int:
        """The tried config that an additive ridge over all trials puts first."""
        rows = [position for position, gains in self.seen.items() for _ in gains]
        gains = np.array([gain for gains in self.seen.values() for gain in gains])
        fit = ridge(self.features[rows], gains, self.features)
        return max(self.seen, key=lambda position: fit[position])


def true_gains(points: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """(configs,) with mean 0 and sd 1."""
    curves = [smooth(column, rng) for column in points.T]
    pairs = [smooth(a, rng) * smooth(b, rng) for a, b in itertools.combinations(points.T, 2)]
    additive, joint = (scaled(np.sum(parts, axis=0)) for parts in (curves, pairs))
    return scaled(np.sqrt(1 - INTERACTIONS) * additive + np.sqrt(INTERACTIONS) * joint)


def smooth(indices: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """A random walk along one field's grid, of its own height, read at each config's index."""
    walk = np.cumsum(rng.standard_normal(indices.max() + 1))
    return rng.standard_normal() * scaled(walk)[indices]


def scaled(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / values.std())


def one_hot(points: NDArray[np.int64]) -> Floats:
    return np.hstack([np.eye(column.max() + 1)[column] for column in points.T])


def ridge(rows: Floats, gains: Floats, wanted: Floats) -> Floats:
    """Gains of the wanted rows, by the shrinkage with the smallest leave-one-out error."""
    left, sizes, right = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    centred = gains - gains.mean()

    def error(shrinkage: float) -> float:
        hat = (left * (sizes**2 / (sizes**2 + shrinkage))) @ left.T
        return float((((centred - hat @ centred) / (1 - hat.diagonal() - 1 / len(gains))) ** 2).mean())

    best = min(SHRINKAGES, key=error)
    weights = right.T @ (sizes / (sizes**2 + best) * (left.T @ centred))
    return np.asarray(gains.mean() + (wanted - rows.mean(0)) @ weights)


def search(world: World, sampler: str, trials: int) -> float:
    """Run a study in the world; returns the CPU seconds that its suggestions took."""
    order = grid_order(world.space, world.seed) if sampler == "grid" else []
    study = optuna.create_study(direction="maximize", sampler=None if order else make(sampler, world.seed))
    study.enqueue_trial(world.space.default)
    for position in order[: trials + 1]:  # no more trials than points
        study.enqueue_trial(world.space.at(position))
    start = time.process_time()
    for _ in range(trials):
        trial, position = suggest(study, world)
        study.tell(trial, world.observe(position))
    return time.process_time() - start


def suggest(study: optuna.Study, world: World) -> tuple[optuna.trial.Trial, int]:
    """The next trial and its config, by the study's rule for configs that were seen."""
    for insistence in itertools.count():
        trial = study.ask(distributions(world.space))
        position = world.space.position(trial.params)
        if position not in world.seen or insistence == INSISTENCES or len(world.seen) == world.space.size:
            return trial, position
        study.tell(trial, float(np.mean(world.seen[position])), TrialState.COMPLETE)
    raise AssertionError("a count does not end")


def measure(space: Space, noise: float, sampler: str, trials: int, worlds: int) -> Floats:
    """(worlds, 4) regret by the largest mean and by the ridge, configs tried, milliseconds per trial."""
    rows = []
    for seed in range(worlds):
        world = World(space, noise, seed)
        seconds = search(world, sampler, trials)
        regrets = (world.regret(world.largest_mean()), world.regret(world.smoothed()))
        rows.append((*regrets, len(world.seen), 1000 * seconds / trials))
    return np.array(rows)


def spread(values: Floats) -> str:
    return f"{values.mean():6.2f} ± {values.std(ddof=1) / np.sqrt(len(values)):.2f}"


def line(name: str, noise: float, sampler: str, table: Floats, random: Floats) -> str:
    """A row of the printed table; the difference to random is taken over the worlds that both met."""
    difference = table[:, 1] - random[: len(table), 1]
    regrets = f"{spread(table[:, 0])}  {spread(table[:, 1])}  {spread(difference)}"
    tried, cost = table[:, 2:].mean(0)
    return f"{name:9} {noise:5.0f}  {sampler:7} {regrets} {tried:8.0f} {cost:13.1f} {len(table):7}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--reps", type=int, default=40, help="worlds on full; notebook has 4 times, gp a quarter")
    parser.add_argument("--quick", action="store_true", help="4 worlds, the notebook space only")
    parser.add_argument("--spaces", nargs="+", default=list(TRIALS), choices=list(TRIALS))
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spaces, reps = (["notebook"], 1) if options.quick else (options.spaces, options.reps)
    print("space     noise  sampler  largest mean         ridge   less random  configs  ms per trial  worlds")
    for name, noise in itertools.product(spaces, NOISE):
        worlds = reps * WORLDS[name]
        random = measure(PRESETS[name], noise, "random", TRIALS[name], worlds)
        print(line(name, noise, "random", random, random), flush=True)
        for sampler in ("qmc", "grid", "tpe", "gp"):
            met = max(2, worlds // 4) if sampler in SLOW else worlds
            table = measure(PRESETS[name], noise, sampler, TRIALS[name], met)
            print(line(name, noise, sampler, table, random), flush=True)


if __name__ == "__main__":
    main()
