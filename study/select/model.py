"""What each config is expected to reach: the sum of its parameters' effects, smoothed over all trials. Arithmetic only.

    value of a trial = centre + an effect for each parameter's level + what is the config's own + noise

Effects are drawn from one normal distribution, so levels that were tried little are shrunk most. So is what is the
config's own; only replicates tell it from noise, and where these are too few it counts as noise. The centre is free.
How wide the two distributions are, in units of the noise, is averaged over, by marginal likelihood (REML) and a
half-Cauchy prior (Gelman 2006): the one best width would make a few trials look too certain.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from study.select.choice import LEAST_REPLICATES, Z95

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTHS = np.geomspace(1e-3, 1e3, 41)  # variance of the effects over that of the noise
OWN_WIDTHS = np.geomspace(1e-2, 1e2, 9)  # the same for what is a config's own
NEGLIGIBLE = 1e-6  # a pair of widths with less weight is left out


@dataclass(frozen=True)
class Fit:
    """What the trials say of their configs, and of each level of each parameter; in the values' unit."""

    config_of: Ints  # (trials,) each trial's config, an index into `estimate`
    estimate: Floats  # (configs,)
    error: Floats  # (configs,) standard errors
    effects: tuple[Floats, ...]  # per parameter (levels,), less the mean over the levels tried; nan without two
    effect_errors: tuple[Floats, ...]
    noise: float  # standard deviation of one trial around its config's estimate, as the trials scatter
    quantile: float  # standard errors to either side in a 95 % interval

    @property
    def best(self) -> int:
        """The config with the highest estimate."""
        return int(self.estimate.argmax())


def fit(points: Ints, values: Floats, sizes: tuple[int, ...], image_noise: float) -> Fit:
    """Fit the model.

    Args:
        points: (trials, parameters) the level of each, from 0; at least one trial.
        values: (trials,) what they found.
        sizes: levels of each parameter.
        image_noise: the standard error of one value over its images. It counts as one more trial's word on the
            noise, so that few trials that happen to agree do not pass for certainty.
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
        quantile=float(stats.t.ppf(0.975, len(values))) if len(values) > 1 else Z95,  # alone, only its images speak
    )


@dataclass(frozen=True)
class _Cells:
    """The trials, config by config: all that the model needs of them."""

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
    """(features, features) each level less the mean of its parameter's levels tried; nan where nothing compares."""
    tried = features.sum(0) > 0
    parameter = np.repeat(np.arange(len(sizes)), sizes)
    together = (parameter[:, None] == parameter) & tried
    levels = together.sum(1, keepdims=True)
    compared = tried[:, None] & (levels > 1)
    return np.where(compared, np.eye(len(tried)) - together / np.maximum(1, levels), np.nan)


def _own_widths(cells: _Cells) -> list[tuple[float, float]]:
    """The widths of what is a config's own, each with its prior's logarithm; as likely as not there is none."""
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
    """The model solved for one width of what is a config's own, and every width of the effects."""

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
        """(configs, features) less their mean, along the axes; only where this solution matters."""
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
    freedom = len(cells.config_of)  # one went to the centre, one came from the images
    variance = np.maximum((np.maximum(0.0, squares) + image_noise**2) / freedom, np.finfo(float).tiny)
    log_determinant = np.log1p(np.outer(curvatures, WIDTHS)).sum(0) + np.log(total) - np.log(weights).sum()
    log_weight = log_prior + np.log(_half_cauchy(WIDTHS)) - 0.5 * (log_determinant + freedom * np.log(variance))
    return _Solution(own, total, centre, features - middle, axes, projections, shrinkage, variance, log_weight)


def _plausible(solutions: list[_Solution]) -> Iterator[tuple[float, _Solution, int]]:
    """Each solution and width that matters, with its weight; the largest weight is 1."""
    highest = max(solution.log_weight.max() for solution in solutions)
    for solution in solutions:
        weights = np.exp(solution.log_weight - highest)
        for width in np.flatnonzero(weights > NEGLIGIBLE):
            yield float(weights[width]), solution, int(width)


def _of_configs(cells: _Cells, solution: _Solution, width: int) -> tuple[Floats, Floats]:
    """(configs,) the configs' values and their variances: between the sum of effects and what they showed."""
    shrinkage, noise = solution.shrinkage[:, width], solution.variance[width]
    sums = solution.centre + solution.rotated @ (solution.projections * shrinkage)
    sum_variances = noise * (solution.rotated**2 @ shrinkage + 1 / solution.total)
    shown = solution.own / (solution.own + 1 / cells.counts)  # how far to believe a config's own mean
    values = shown * cells.means + (1 - shown) * sums
    return values, (1 - shown) ** 2 * sum_variances + noise * shown / cells.counts


def _of_effects(contrasts: Floats, solution: _Solution, width: int) -> tuple[Floats, Floats]:
    """(features,) the levels' effects and their variances."""
    shrinkage = solution.shrinkage[:, width]
    along = contrasts @ solution.axes
    return along @ (solution.projections * shrinkage), solution.variance[width] * (along**2 @ shrinkage)


class _Average:
    """The mean and the spread of one thing over weighted assumptions, each with its own mean and variance."""

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
