"""How a study picks its next point: Optuna's samplers over indices into the grids, and the order of `grid`."""

import random
import warnings

import numpy as np
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler

from study.space import Sampler, Space


def resolve(name: Sampler, space: Space, trials: int) -> Sampler:
    """The sampler that `name` stands for in a study of so many trials.

    `auto` is `grid` if there are trials enough for every point: all are tried, at no clear loss. Otherwise
    it is `tpe`, which left less regret than `random`, `qmc` and `grid` in 50 trials of `notebook`; `gp` did no
    better within its error at ten times the time (`python -m tests.benchmarks.samplers`).
    """
    if name != "auto":
        return name
    return "grid" if trials >= space.size else "tpe"


def make(name: Sampler, seed: int, recorded: int = 0) -> BaseSampler:
    """A sampler for a study, or for the rest of one.

    Args:
        name: what `resolve` returned; for `grid` the ledger itself finds the next point.
        seed: the study's.
        recorded: how many trials were recorded before, so that a resumed study does not draw the same
            points again.
    """
    derived = int(np.random.SeedSequence((seed, recorded)).generate_state(1)[0])
    match name:
        case "tpe":
            return TPESampler(seed=derived, multivariate=True, constant_liar=True)
        case "gp":
            return GPSampler(seed=derived)
        case "random":
            return RandomSampler(seed=derived)
        case "qmc":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return QMCSampler(scramble=True, seed=derived, warn_independent_sampling=False)
    raise ValueError(f"sampler is {name!r}; expected tpe, gp, random or qmc")


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """For each searched field, its index into the grid: an `IntDistribution` from 0."""
    return {name: IntDistribution(0, len(grid) - 1) for name, grid in space.grids.items()}


def grid_order(space: Space, seed: int) -> list[int]:
    """The positions of all points, in an order that the seed alone decides."""
    draws = random.Random(seed)  # its random() is promised to stay the same in later Pythons
    keys = [draws.random() for _ in range(space.size)]
    return sorted(range(space.size), key=keys.__getitem__)
