"""The expected value of each config: the sum of its parameters' effects, estimated from all trials. Arithmetic only.

    value of a trial = centre + an effect for each parameter's level + the config's own deviation + noise

Effects are drawn from one normal distribution, so levels with few trials are shrunk most. So is a config's own
deviation; only replicates separate it from noise, and where these are too few it counts as noise. The centre is free.
How wide the two distributions are, in units of the noise, is averaged over, by marginal likelihood (REML) and a
half-Cauchy prior (Gelman 2006): the one best width would make the error of a few trials too small.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTHS = np.geomspace(1e-3, 1e3, 41)  # variance of the effects over that of the noise
OWN_WIDTHS = np.geomspace(1e-2, 1e2, 9)  # the same for the configs' own deviations
NEGLIGIBLE = 1e-6  # a pair of widths with less weight is left out
Z95 = 1.959964
LEAST_SEEDS = 4  # of a config whose estimate has an interval: one seed does not show the noise between seeds
LEAST_REPLICATES = LEAST_SEEDS - 1  # trials beyond each config's first, which show the noise


@dataclass(frozen=True)
class Fit:
    """Estimates for each config and for each level of each parameter, in the unit of the values."""

    config_of: Ints  # (trials,) each trial's config, an index into `estimate`
    estimate: Floats  # (configs,)
    error: Floats  # (configs,) standard errors
    effects: tuple[Floats, ...]  # per parameter (levels,), less the mean over the levels tried; nan without two
    effect_errors: tuple[Floats, ...]
    noise: float  # standard deviation of one trial around its config's estimate, as the trials scatter
    quantile: float  # standard errors to either side in a 95 % interval
    means: Floats  # (configs,) as observed

    @property
    def best(self) -> int:
        """The config with the highest estimate; among equals that with the highest mean."""
        return int(np.lexsort((self.means, self.estimate))[-1])

    @property
    def trials(self) -> Floats:
        """(configs,) trials of each."""
        return np.bincount(self.config_of).astype(float)

    @property
    def half(self) -> Floats:
        """(configs,) half the 95 % interval of the estimate; nan where a config has too few seeds to state it."""
        return np.where(self.trials >= LEAST_SEEDS, self.quantile * self.error, np.nan)

    @property
    def shares(self) -> list[float]:
        """Per parameter, the share of the variance between trials that its effects explain; the rest is noise."""
        levels = [effects[~np.isnan(effects)] for effects in self.effects]
        variances = [float(np.mean(tried**2)) if len(tried) else 0.0 for tried in levels]
        return [variance / (sum(variances) + self.noise**2) for variance in variances]

    def interval(self, config: int) -> tuple[float, float] | None:
        """The 95 % interval of a config's estimate, for further seeds on the same images; None with too few seeds."""
        middle, half = float(self.estimate[config]), float(self.half[config])
        return None if np.isnan(half) else (middle - half, middle + half)


def fit(points: Ints, values: Floats, sizes: tuple[int, ...], image_noise: float) -> Fit:
    """Fit the model.

    Args:
        points: (trials, parameters) the level of each, from 0; at least one trial.
        values: (trials,) what they found.
        sizes: levels of each parameter.
        image_noise: the standard error of one value over its images. It counts as one more observation of the
            noise, so that the error of a few trials that happen to agree is not zero.
    """
    cells = _cells(points, values, sizes)
    features = _features(cells.levels, sizes)
    grams = _grams(cells, features)
    solutions = [_solve(cells, features, grams, own, image_noise) for own in _own_widths(cells)]
    contrasts = _contrasts(features, sizes)
    configs, effects, noise = _Average(), _Average(), _Average()
    for weight, solution, width in _plausible(solutions):
        configs.add(weight, *_of_configs(cells, solution, width))
        effects.add(weight, *_of_effects(contrasts, solution, width))
        noise.add(weight, solution.variance[[width]], np.zeros(1))
    estimate, error = configs.result()
    ends = np.cumsum(sizes)[:-1]
    return Fit(
        config_of=cells.config_of,
        estimate=estimate,
        error=error,
        effects=tuple(np.split(effects.result()[0], ends)) if sizes else (),
        effect_errors=tuple(np.split(effects.result()[1], ends)) if sizes else (),
        noise=float(np.sqrt(noise.result()[0][0])),
        quantile=float(stdtrit(len(values), 0.975)) if len(values) > 1 else Z95,  # alone, only its images count
        means=cells.means,
    )


@dataclass(frozen=True)
class _Cells:
    """The trials, config by config."""

    levels: Ints  # (configs, parameters)
    counts: Floats  # (configs,) trials of each
    means: Floats  # (configs,)
    within: float  # sum of squares around these means
    config_of: Ints  # (trials,)


def _cells(points: Ints, values: Floats, sizes: tuple[int, ...]) -> _Cells:
    codes = np.ravel_multi_index(tuple(points.T), sizes) if sizes else np.zeros(len(values), np.int64)
    _, first, config_of, counts = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
    means = np.bincount(config_of, values) / counts
    within = float(((values - means[config_of]) ** 2).sum())
    return _Cells(points[first], counts.astype(float), means, within, config_of)


def _features(levels: Ints, sizes: tuple[int, ...]) -> Floats:
    """(configs, features) one column per level of each parameter: 1 where the config has it, else 0."""
    parts = [np.eye(size)[column] for size, column in zip(sizes, levels.T, strict=True)]
    return np.hstack([np.zeros((len(levels), 0)), *parts])


def _grams(cells: _Cells, features: Floats) -> dict[float, Floats]:
    """Per number of trials (features, features) the products of the features, over the configs with so many."""
    of = {float(count): features[cells.counts == count] for count in np.unique(cells.counts)}
    return {count: rows.T @ rows for count, rows in of.items()}


def _contrasts(features: Floats, sizes: tuple[int, ...]) -> Floats:
    """(features, features) each level less the mean of its parameter's levels tried; nan where one level was tried."""
    tried = features.sum(0) > 0
    parameter = np.repeat(np.arange(len(sizes)), sizes)
    together = (parameter[:, None] == parameter) & tried
    levels = together.sum(1, keepdims=True)
    compared = tried[:, None] & (levels > 1)
    return np.where(compared, np.eye(len(tried)) - together / np.maximum(1, levels), np.nan)


def _own_widths(cells: _Cells) -> list[tuple[float, float]]:
    """The widths of the configs' own deviations, each with its log prior; half the prior is on none."""
    if len(cells.config_of) - len(cells.counts) < LEAST_REPLICATES:
        return [(0.0, 0.0)]
    priors = _half_cauchy(OWN_WIDTHS)
    shares = 0.5 * priors / priors.sum()
    return [(0.0, float(np.log(0.5))), *zip(OWN_WIDTHS.tolist(), np.log(shares).tolist(), strict=True)]


def _half_cauchy(widths: Floats) -> Floats:
    """The prior density of variance ratios on a logarithmic scale, up to a factor."""
    return np.asarray(np.sqrt(widths) / (1 + widths))


@dataclass(frozen=True)
class _Solution:
    """The model solved for one width of the configs' own deviations, and every width of the effects."""

    own: float
    total: float  # of the configs' weights
    centre: float
    centred: Floats  # (configs, features) less their mean
    axes: Floats  # (features, features) along which the effects are independent
    projections: Floats  # (features,)
    shrinkage: Floats  # (features, widths)
    variance: Floats  # (widths,) of the noise
    log_weight: Floats  # (widths,)

    @cached_property
    def rotated(self) -> Floats:
        """(configs, features) less their mean, along the axes; computed for likely widths only."""
        return self.centred @ self.axes


def _solve(
    cells: _Cells,
    features: Floats,
    grams: dict[float, Floats],
    own_and_prior: tuple[float, float],
    image_noise: float,
) -> _Solution:
    own, log_prior = own_and_prior
    weights = 1 / (own + 1 / cells.counts)  # inverse variances of the configs' means, in units of the noise
    total = float(weights.sum())
    centre = float(weights @ cells.means) / total
    means, middle = cells.means - centre, weights @ features / total
    products = sum((gram / (own + 1 / count) for count, gram in grams.items()), -total * np.outer(middle, middle))
    curvatures, axes = np.linalg.eigh(products)
    curvatures = np.maximum(0.0, curvatures)
    projections = axes.T @ (features.T @ (weights * means))
    shrinkage = 1 / (curvatures[:, None] + 1 / WIDTHS)
    squares = cells.within + weights @ means**2 - projections**2 @ shrinkage
    freedom = len(cells.config_of)  # less one for the centre, plus one of the images
    variance = np.maximum((np.maximum(0.0, squares) + image_noise**2) / freedom, np.finfo(float).tiny)
    log_determinant = np.log1p(np.outer(curvatures, WIDTHS)).sum(0) + np.log(total) - np.log(weights).sum()
    log_weight = log_prior + np.log(_half_cauchy(WIDTHS)) - 0.5 * (log_determinant + freedom * np.log(variance))
    return _Solution(own, total, centre, features - middle, axes, projections, shrinkage, variance, log_weight)


def _plausible(solutions: list[_Solution]) -> Iterator[tuple[float, _Solution, int]]:
    """Each solution and width with a weight above NEGLIGIBLE; the largest weight is 1."""
    highest = max(solution.log_weight.max() for solution in solutions)
    for solution in solutions:
        weights = np.exp(solution.log_weight - highest)
        for width in np.flatnonzero(weights > NEGLIGIBLE):
            yield float(weights[width]), solution, int(width)


def _of_configs(cells: _Cells, solution: _Solution, width: int) -> tuple[Floats, Floats]:
    """(configs,) the configs' values and their variances: between the sum of effects and their means."""
    shrinkage, noise = solution.shrinkage[:, width], solution.variance[width]
    sums = solution.centre + solution.rotated @ (solution.projections * shrinkage)
    sum_variances = noise * (solution.rotated**2 @ shrinkage + 1 / solution.total)
    weight = solution.own / (solution.own + 1 / cells.counts)  # of a config's own mean
    values = weight * cells.means + (1 - weight) * sums
    return values, (1 - weight) ** 2 * sum_variances + noise * weight / cells.counts


def _of_effects(contrasts: Floats, solution: _Solution, width: int) -> tuple[Floats, Floats]:
    """(features,) the levels' effects and their variances."""
    shrinkage = solution.shrinkage[:, width]
    along = contrasts @ solution.axes
    return along @ (solution.projections * shrinkage), solution.variance[width] * (along**2 @ shrinkage)


class _Average:
    """The mean and the standard deviation of a mixture of distributions, each with a weight, mean and variance."""

    def __init__(self) -> None:
        self._weight, self._first, self._second = 0.0, np.zeros(1), np.zeros(1)

    def add(self, weight: float, mean: Floats, variance: Floats) -> None:
        self._weight += weight
        self._first = self._first + weight * mean
        self._second = self._second + weight * (variance + mean**2)

    def result(self) -> tuple[Floats, Floats]:
        """The mean and the standard deviation."""
        mean = self._first / self._weight
        return mean, np.sqrt(np.maximum(0.0, self._second / self._weight - mean**2))
