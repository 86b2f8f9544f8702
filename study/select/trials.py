"""What complete trials found of one objective, as the model takes it. Arithmetic only."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LEAST_SEEDS = 4  # of a config whose estimate has an interval: one seed does not show the noise between seeds
LEAST_REPLICATES = LEAST_SEEDS - 1  # trials beyond each config's first, which show the noise
PRIOR_FREEDOM = 4  # with so many degrees of freedom a group's noise is shrunk to that of all


@dataclass(frozen=True)
class Trials:
    """What complete trials found of one objective."""

    levels: Ints  # (trials, parameters) the level of each searched parameter, from 0
    sizes: tuple[int, ...]  # levels of each parameter
    values: Floats  # (trials,)
    chains: Ints  # (trials,) equal where the baseline is the same network, at whatever epoch
    noisy: Bools  # (trials,) those of few epochs, whose noise is larger
    image_noise: float  # standard error of one value over its images
    image_part: float = 0.0  # the part of its square that further seeds on the same images do not reduce

    @cached_property
    def cells(self) -> "Cells":
        """The trials, config by config."""
        codes = np.ravel_multi_index(tuple(self.levels.T), self.sizes) if self.sizes else np.zeros(len(self.values))
        _, first, config_of, counts = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
        means = np.bincount(config_of, self.values) / counts
        squares = np.asarray(np.bincount(config_of, (self.values - means[config_of]) ** 2), float)
        return Cells(first, config_of, counts.astype(float), means, squares)

    def first(self, number: int) -> "Trials":
        """The first so many."""
        cut = {name: getattr(self, name)[:number] for name in ("levels", "values", "chains", "noisy")}
        return replace(self, **cut)


@dataclass(frozen=True)
class Cells:
    """The trials, config by config."""

    first: Ints  # (configs,) each config's first trial
    config_of: Ints  # (trials,)
    counts: Floats  # (configs,) trials of each
    means: Floats  # (configs,)
    squares: Floats  # (configs,) sum of squares around the mean

    @property
    def replicates(self) -> int:
        """Trials beyond each config's first."""
        return len(self.config_of) - len(self.counts)


def own_noise(trials: Trials) -> Floats:
    """(configs,) the variance of a config's trials, shrunk to that of all with few or with many epochs.

    Zeros where there are too few replicates to show any.
    """
    cells = trials.cells
    if cells.replicates < LEAST_REPLICATES:
        return np.zeros(len(cells.counts))
    pooled = cells.squares.sum() / cells.replicates
    noisy, extra = trials.noisy[cells.first], cells.counts - 1
    of_group = np.empty(len(cells.counts))
    for group in (noisy, ~noisy):
        squares, freedom = cells.squares[group].sum(), extra[group].sum()
        of_group[group] = (squares + PRIOR_FREEDOM * pooled) / (freedom + PRIOR_FREEDOM)
    return np.asarray((cells.squares + PRIOR_FREEDOM * of_group) / (extra + PRIOR_FREEDOM))


def noise_scales(trials: Trials) -> Floats:
    """(trials,) each trial's noise relative to that of all: by few or many epochs, and by its config's replicates."""
    own, cells = own_noise(trials), trials.cells
    if not own.any():
        return np.ones(len(trials.values))
    return np.asarray(np.sqrt(own * cells.replicates / cells.squares.sum())[cells.config_of])
