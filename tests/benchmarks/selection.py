"""What a study's choice is worth in simulated worlds whose truth is known: coverage, bias and regret.

    python -m tests.benchmarks.selection [--worlds 60] [--trials 50]

A world gives each of the 144 points of `notebook` a true gain. A trial finds it with noise: of its images, of seeds
as measured on CIFAR-10 (a standard deviation of 4.7 points at 1 and 2 epochs, 1.6 at 3 and 4, 1.3 beyond), shared by
trials that share networks (40 % baseline, 10 % gate, 25 % experts) at whatever epoch. In a world where baselines fail,
15 % of the large ones learn little in their first 6 epochs, and their mixtures gain 15 points more, modelled on the
failures in `results/cifar-notebook`. `observed` is the rule of the first edition: the largest value, with an interval
of its images alone. `refined` is the study's own choice, by its own functions.
"""

import argparse
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
from scipy.special import ndtri

from moe.config import Config
from study.select.choice import choose, gain_noise
from study.select.model import Z95
from study.select.refine import replicates
from study.space import PRESETS
from study.study import Record, Study
from tests.benchmarks.report import circumstances
from tests.study_helpers import a_record, a_study

SPACE = PRESETS["notebook"]
SIZES = tuple(map(len, SPACE.grids.values()))
POINTS = np.array(list(np.ndindex(SIZES)))
IMAGES, DISCORDANCE, STAYS = 5000, 0.2, 0.04  # scored; and the part of the images' noise that stays over seeds
SHARES = {"use_large_baseline_classifier": 0.4, "use_large_gating_mlp": 0.1, "use_large_experts": 0.25}
FAILING, FAILURE = 0.15, 15.0  # of large baselines; and the points that a mixture gains over one
FAIL = " (baselines fail)"
Floats = np.ndarray


def _unit(values: Floats) -> Floats:
    return (values - values.mean()) / values.std()


def _additive(draw: np.random.Generator) -> Floats:
    return _unit(sum(draw.standard_normal(size)[column] for size, column in zip(SIZES, POINTS.T, strict=True)))


def _pairs(draw: np.random.Generator) -> Floats:
    return _unit(
        sum(
            draw.standard_normal((SIZES[one], SIZES[other]))[POINTS[:, one], POINTS[:, other]]
            for one in range(len(SIZES))
            for other in range(one)
        )
    )


#: by name, the true gains in points
WORLDS: dict[str, Callable[[np.random.Generator], Floats]] = {
    "nothing helps": lambda draw: np.zeros(len(POINTS)),
    "additive, sd 1": _additive,
    "additive, sd 4.6": lambda draw: 4.6 * _additive(draw),
    "half pairs, sd 1.5": lambda draw: 1.5 * (_additive(draw) + _pairs(draw)) / np.sqrt(2),
    "half pairs, sd 4.6": lambda draw: 4.6 * (_additive(draw) + _pairs(draw)) / np.sqrt(2),
    "skewed, sd 4.6": lambda draw: 4.6 * _unit(np.exp(_additive(draw))),
}


@dataclass
class World:
    """A world, and the noise that its trials have drawn."""

    truth: Floats
    draw: np.random.Generator
    seed_noise: Callable[[int], float]
    fails: bool = False
    shared: dict[tuple[object, ...], float] = field(default_factory=dict)
    images: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.images = np.sqrt(STAYS) * self.draw.standard_normal(len(POINTS))

    def trial(self, number: int, place: int, replicate: int, phase: str = "search") -> Record:
        """What a trial of a point finds."""
        values = SPACE.values(SPACE.at(place))
        noise = np.sqrt(1 - sum(SHARES.values())) * self.draw.standard_normal()
        for name, share in SHARES.items():
            noise += np.sqrt(share) * self.of_network(name, values[name], values["train_examples"], replicate)
        of_images = 100 * np.sqrt(DISCORDANCE / IMAGES)
        image = of_images * (self.images[place] + np.sqrt(1 - STAYS) * self.draw.standard_normal())
        gain = self.truth[place] + self.seed_noise(values["epochs"]) * noise + self.failure(values, replicate) + image
        record = a_record(number, float(np.clip(gain / 100, -0.5, 0.45)), "complete", replicate, phase, **values)
        score = record.done.score.replace(discordance=DISCORDANCE)
        result = record.done.replace(score=score, scored_examples=IMAGES)
        return record.replace(result=result)

    def of_network(self, *network: object) -> float:
        """Standard normal noise that all trials with a network have."""
        if network not in self.shared:
            self.shared[network] = self.draw.standard_normal()
        return self.shared[network]

    def failure(self, values: Mapping[str, Any], replicate: int) -> float:
        """What a trial gains because its baseline fails, less the mean of that."""
        if not (self.fails and values["use_large_baseline_classifier"] and values["epochs"] <= 6):
            return 0.0
        fails = self.of_network("fails", values["train_examples"], replicate) > ndtri(1 - FAILING)
        return FAILURE * (fails - FAILING)


def measured(epochs: int) -> float:
    """The standard deviation of a gain over seeds, in points, as measured on CIFAR-10."""
    return 4.7 if epochs <= 2 else 1.6 if epochs <= 4 else 1.3


def study_of(world: World, study: Study, trials: int) -> list[Record]:
    """The records of a study: the notebook's default and random points, then what refining wants."""
    default = SPACE.position(SPACE.default)
    places = world.draw.permutation(len(POINTS)).tolist()
    places.remove(default)
    records = [world.trial(n, place, 0) for n, place in enumerate([default, *places[: trials - 1]], 1)]
    while wanted := replicates(study, records):
        for each in wanted:
            records.append(world.trial(len(records) + 1, SPACE.position(each.point), each.replicate, "refine"))
    return records


def outcomes(name: str, worlds: int, trials: int, noise: Callable[[int], float]) -> Iterator[tuple[float, ...]]:
    """Of each world: whether `observed` and `refined` cover the truth, their biases and regrets, in points."""
    for seed in range(worlds):
        draw = np.random.default_rng(seed)
        world = World(WORLDS[name.removesuffix(FAIL)](draw), draw, noise, fails=name.endswith(FAIL))
        study = a_study(space=SPACE, refine=5, refine_seeds=4, seed=seed)
        records = study_of(world, study, trials)
        screened = [record for record in records if record.phase == "search"]
        largest = max(screened, key=lambda record: record.done.gain)
        first = world.truth[_place(largest.config)]
        choice = choose(study, records)
        assert choice
        assert choice.interval
        second, best = world.truth[_place(choice.config)], world.truth.max()
        low, high = (100 * bound for bound in choice.interval)
        yield (
            abs(100 * largest.done.gain - first) <= 100 * Z95 * gain_noise(largest.done),
            100 * largest.done.gain - first,
            best - first,
            low <= second <= high,
            100 * choice.estimate - second,
            best - second,
            (high - low) / 2,
            len(records) - len(screened),
        )


def _place(config: Config) -> int:
    return SPACE.position(SPACE.point(config))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=60)
    parser.add_argument("--trials", type=int, default=50)
    options = parser.parse_args()
    random.seed(0)
    print(circumstances())
    print("| world | observed covers | bias | regret | refined covers | bias | regret | half width | replicates |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in [*WORLDS, *(name + FAIL for name in WORLDS if "sd 1" not in name)]:
        rows = list(zip(*outcomes(name, options.worlds, options.trials, measured), strict=True))
        means = [fmean(row) for row in rows]
        print(f"| {name} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |", flush=True)


if __name__ == "__main__":
    main()
