"""How a study picks its next point: Optuna's samplers over indices into the grids, and a grid sampler."""

import random
import warnings
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

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


def make(name: Sampler, space: Space, seed: int, recorded: int = 0) -> BaseSampler:
    """A sampler for a study, or for the rest of one.

    Args:
        name: what `resolve` returned.
        space: what is searched; nothing at all is fine.
        seed: the study's.
        recorded: how many trials were recorded before, so that a resumed study does not draw the same
            points again; `grid` continues in the order that the seed gives, whatever this is.
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
        case "grid":
            return GridSampler(space, seed)
    raise ValueError(f"sampler is {name!r}; expected what resolve returns")


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """For each searched field, its index into the grid: an `IntDistribution` from 0."""
    return {name: IntDistribution(0, len(grid) - 1) for name, grid in space.grids.items()}


def grid_order(space: Space, seed: int) -> list[int]:
    """The positions of all points, in an order that the seed alone decides."""
    draws = random.Random(seed)  # its random() is promised to stay the same in later Pythons
    keys = [draws.random() for _ in range(space.size)]
    return sorted(range(space.size), key=keys.__getitem__)


AGAIN = "again"  # Optuna's attribute of a trial whose worker was lost: its point still lacks a trial


class GridSampler(BaseSampler):
    """Every point once, in an order that the seed alone decides, and then again from the start.

    A point counts as taken once the study has a trial of it, be it complete, running or failed, unless its worker was
    lost. From the second round on every proposal is a replicate, on purpose. One sampler is for one study.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._order = grid_order(space, seed)
        self._taken = [0] * space.size  # trials per position
        self._next = 0  # how many proposals the rounds have passed, taken ones included
        self._counted: set[int] = set()  # trials of the study that are in `_taken`

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All searched fields are drawn together."""
        return distributions(self._space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The first point of the order that this round has not taken."""
        for each in study.get_trials(deepcopy=False):
            if each.params.keys() < self._space.grids.keys():
                continue
            taken = not each.user_attrs.get(AGAIN)
            if taken != (each.number in self._counted):
                self._counted ^= {each.number}
                self._taken[self._space.position(each.params)] += 1 if taken else -1
                self._next = self._next if taken else 0
        while self._taken[position := self._order[self._next % self._space.size]] > self._next // self._space.size:
            self._next += 1
        return self._space.at(position)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Raise an error: a field that is requested alone is not one of the space.

        Raises:
            KeyError: always.
        """
        raise KeyError(f"{param_name} is not searched as {param_distribution}; see distributions(space)")
