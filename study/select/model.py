"""The expected value of each config, estimated from all trials of a study. Arithmetic only.

    value of a trial = centre + effects of its parameters + effects of pairs of parameters
                     + the config's own deviation + noise of the networks it shares with others + its own noise

Effects are drawn from normal distributions, so levels with few trials are shrunk most. Only replicates separate a
config's own deviation from noise; where these are too few it counts as noise. Trials with the same baseline network
share a part of their noise. How wide the distributions are, in units of the noise, is averaged over, by marginal
likelihood (REML) and half-Cauchy priors (Gelman 2006): the one best width would make the error too small.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import ndtri, stdtrit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WIDTHS = np.geomspace(1e-3, 1e3, 41)  # variance of the parameters' effects over that of the noise
PAIR_WIDTHS = (0.0, 0.1, 0.3, 1.0, 3.0)  # variance of the pairs' effects over that of the parameters'
OWN_WIDTHS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)  # variance of configs' own deviations over that of the noise
SHARED = (0.0, 0.2, 0.4, 0.6)  # share of the noise that trials with one baseline network have in common
USUAL_SHARED = 0.4  # until replicates show it
NEGLIGIBLE = 1e-4  # a combination of widths with less weight is left out
MOST_PAIRS = 300  # columns of pairs; a space with more is taken as additive, so that a fit ends within seconds
MOST_OWN = 300  # replicated configs; beyond, their own deviations count as noise
Z95 = 1.959964
DRAWS = 500  # of the effects, for the interval of an importance
LEAST_SEEDS = 4  # of a config whose estimate has an interval: one seed does not show the noise between seeds
LEAST_REPLICATES = LEAST_SEEDS - 1  # trials beyond each config's first, which show the noise
REPLICATES_FOR_SHARED = 8  # that show how much of the noise is shared
PRIOR_FREEDOM = 4  # with so many degrees of freedom a group's noise is shrunk to that of all


@dataclass(frozen=True)
class Trials:
    """What complete trials found of one objective."""

    levels: Ints  # (trials, parameters) the level of each searched parameter, from 0
    sizes: tuple[int, ...]  # levels of each parameter
    values: Floats  # (trials,)
    networks: Ints  # (trials,) equal where baseline network and seed are
    noisy: Bools  # (trials,) those of few epochs, whose noise is larger
    image_noise: float  # standard error of one value over its images
    image_part: float = 0.0  # the part of its square that further seeds on the same images do not reduce

    @cached_property
    def cells(self) -> "_Cells":
        """The trials, config by config."""
        codes = np.ravel_multi_index(tuple(self.levels.T), self.sizes) if self.sizes else np.zeros(len(self.values))
        _, first, config_of, counts = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
        means = np.bincount(config_of, self.values) / counts
        squares = np.asarray(np.bincount(config_of, (self.values - means[config_of]) ** 2), float)
        return _Cells(first, config_of, counts.astype(float), means, squares)

    def first(self, number: int) -> "Trials":
        """The first so many."""
        cut = {name: getattr(self, name)[:number] for name in ("levels", "values", "networks", "noisy")}
        return replace(self, **cut)


class Importance(NamedTuple):
    """The share of the variance between trials that a parameter's own effects explain, with a 95 % interval."""

    share: float
    low: float
    high: float
    chance: bool  # no more than chance: no effect is beyond noise, all levels of all parameters considered


@dataclass(frozen=True)
class _Cells:
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


@dataclass(frozen=True)
class Fit:
    """Estimates for each config and for each level of each parameter, in the unit of the values."""

    config_of: Ints  # (trials,) each trial's config, an index into `estimate`
    estimate: Floats  # (configs,)
    error: Floats  # (configs,) standard errors, for new seeds and new images
    effects: tuple[Floats, ...]  # per parameter (levels,), less the mean over the levels tried; nan without two
    effect_errors: tuple[Floats, ...]
    noise: float  # standard deviation of one trial around its config's estimate
    quantile: float  # standard errors to either side in a 95 % interval of an effect
    means: Floats  # (configs,) as observed
    variance: float  # of the trials' values

    @property
    def trials(self) -> Floats:
        """(configs,) trials of each."""
        return np.bincount(self.config_of).astype(float)

    @property
    def half(self) -> Floats:
        """(configs,) half the 95 % interval of the estimate; nan where a config has too few seeds to state it."""
        # a config's own noise is known from its own trials and the prior of `_scales`
        freedom = np.minimum(len(self.config_of), PRIOR_FREEDOM + self.trials - 1)
        return np.where(self.trials >= LEAST_SEEDS, stdtrit(freedom, 0.975) * self.error, np.nan)

    @property
    def promise(self) -> Floats:
        """(configs,) half way between observed mean and estimate: the order of configs that lack replicates."""
        return (self.means + self.estimate) / 2

    @property
    def best(self) -> int:
        """The highest estimate among configs with enough seeds for an interval; if there are none, the most promising.

        Among equals it is the one with the highest mean.
        """
        stated = self.trials >= LEAST_SEEDS
        value = np.where(stated, self.estimate, -np.inf) if stated.any() else self.promise
        return int(np.lexsort((self.means, value))[-1])

    @cached_property
    def importances(self) -> list[Importance]:
        """Of each parameter; its pairs with others are not in it."""
        compared = sum(int(np.isfinite(effects).sum()) for effects in self.effects)
        beyond = float(-ndtri(0.025 / max(1, compared)))  # standard errors, by Bonferroni
        draw, found = np.random.default_rng(0), []
        for effects, errors in zip(self.effects, self.effect_errors, strict=True):
            tried = np.isfinite(effects)
            middle, error = effects[tried], errors[tried]
            if not tried.any() or not self.variance:
                found.append(Importance(0.0, 0.0, 0.0, chance=True))
                continue
            draws = middle + error * draw.standard_normal((DRAWS, len(middle)))
            shares = np.minimum(1.0, ((draws - draws.mean(1, keepdims=True)) ** 2).mean(1) / self.variance)
            low, high = np.quantile(shares, (0.025, 0.975))
            share = min(1.0, float((middle**2).mean()) / self.variance)
            chance = bool((np.abs(middle) <= beyond * error).all())
            found.append(Importance(share, float(low), float(high), chance))
        return found

    def interval(self, config: int) -> tuple[float, float] | None:
        """The 95 % interval of a config's estimate, for new seeds and new images; None with too few seeds."""
        middle, half = float(self.estimate[config]), float(self.half[config])
        return None if np.isnan(half) else (middle - half, middle + half)


def fit(trials: Trials) -> Fit:
    """Fit the model to at least one trial.

    The image noise counts as one more observation of the noise, and the noise is never below it, so that the error
    of a few trials that happen to agree is not zero.
    """
    cells, features = trials.cells, _Features.of(trials)
    scales = _scales(trials)
    configs, effects, noise = _Average(), _Average(), _Average()
    for weight, solution, width in _plausible(list(_solutions(trials, features, scales))):
        configs.add(weight, *solution.of_configs(width))
        effects.add(weight, *solution.of_effects(width))
        noise.add(weight, solution.variance[[width]], np.zeros(1))
    estimate, error = configs.result()
    middle, spread = effects.result()
    ends = np.cumsum(trials.sizes)[:-1]
    return Fit(
        config_of=cells.config_of,
        estimate=estimate,
        error=np.sqrt(error**2 + trials.image_part),
        effects=tuple(np.split(middle, ends)) if trials.sizes else (),
        effect_errors=tuple(np.split(spread, ends)) if trials.sizes else (),
        noise=float(np.sqrt(noise.result()[0][0])),
        quantile=float(stdtrit(len(trials.values), 0.975)) if len(trials.values) > 1 else Z95,
        means=cells.means,
        variance=float(trials.values.var()),
    )


@dataclass(frozen=True)
class _Features:
    """Columns of the model: one for each level of each parameter, then one for each pair of levels that was tried."""

    rows: Floats  # (configs, features) 1 where the config has it
    pair: Bools  # (features,) whether it is of a pair
    contrasts: Floats  # (levels, features) a level's effect: less the mean of the parameter's levels that were tried

    @classmethod
    def of(cls, trials: Trials) -> "_Features":
        levels = trials.levels[trials.cells.first]
        single = [np.eye(size)[column] for size, column in zip(trials.sizes, levels.T, strict=True)]
        parts, contrasts = [*single], [_single_contrasts(single)]
        for one, other in itertools.combinations(range(len(single)), 2):
            columns = (single[one][:, :, None] * single[other][:, None, :]).reshape(len(levels), -1)
            tried = columns.any(0)
            parts.append(columns[:, tried])
            contrasts.append(_pair_contrasts(single, one, other)[:, tried])
        number, alone = sum(trials.sizes), len(single)
        pairs = sum(part.shape[1] for part in parts[alone:])
        if pairs > MOST_PAIRS:
            parts, contrasts, pairs = parts[:alone], contrasts[:1], 0
        rows = np.hstack([np.zeros((len(levels), 0)), *parts])
        return cls(rows, np.arange(number + pairs) >= number, np.hstack(contrasts))


def _tried(single: list[Floats]) -> list[Bools]:
    return [np.asarray(columns.any(0)) for columns in single]


def _centring(tried: Bools) -> Floats:
    """(levels, levels) each level less the mean of those tried; nan where one level was tried, or none compares."""
    compared = tried if tried.sum() > 1 else np.zeros_like(tried)
    return np.where(compared[:, None], np.eye(len(tried)) - tried / max(1, tried.sum()), np.nan)


def _single_contrasts(single: list[Floats]) -> Floats:
    sizes = [columns.shape[1] for columns in single]
    found, ends = np.zeros((sum(sizes), sum(sizes))), np.cumsum([0, *sizes])
    for start, end, tried in zip(ends, ends[1:], _tried(single), strict=False):
        found[start:end] = np.nan if tried.sum() < 2 else 0.0
        found[start:end, start:end] = _centring(tried)
        found[start:end][~tried] = np.nan
    return found


def _pair_contrasts(single: list[Floats], one: int, other: int) -> Floats:
    """(levels, pairs of levels) of a pair, the mean over the levels of the partner, for both of its parameters."""
    sizes = [columns.shape[1] for columns in single]
    starts, tried = np.cumsum([0, *sizes]), _tried(single)
    found = np.zeros((sum(sizes), sizes[one] * sizes[other]))
    for parameter, partner, first in ((one, other, True), (other, one, False)):
        mean = tried[partner] / max(1, tried[partner].sum())
        centred = np.nan_to_num(_centring(tried[parameter]))
        block = centred[:, :, None] * mean if first else centred[:, None, :] * mean[:, None]
        found[starts[parameter] : starts[parameter] + sizes[parameter]] = block.reshape(sizes[parameter], -1)
    return found


def _scales(trials: Trials) -> Floats:
    """(trials,) each trial's noise relative to that of all: by few or many epochs, and by its config's replicates."""
    cells = trials.cells
    if cells.replicates < LEAST_REPLICATES or not (within := cells.squares.sum()):
        return np.ones(len(trials.values))
    pooled = within / cells.replicates
    noisy, extra = trials.noisy[cells.first], cells.counts - 1
    of_group = np.empty(len(cells.counts))
    for group in (noisy, ~noisy):
        squares, freedom = cells.squares[group].sum(), extra[group].sum()
        of_group[group] = (squares + PRIOR_FREEDOM * pooled) / (freedom + PRIOR_FREEDOM)
    own = (cells.squares + PRIOR_FREEDOM * of_group) / (extra + PRIOR_FREEDOM)
    return np.asarray(np.sqrt(own / pooled)[cells.config_of])


class _Precision:
    """The inverse covariance W of the trials in units of the noise, summed over the trials of each config.

    The covariance is diagonal, plus a block for the trials of each network, plus one for each replicated config. C is
    (configs, trials), 1 where the trial is of the config.
    """

    def __init__(self, trials: Trials, scales: Floats, own: float, shared: float) -> None:
        cells, n = trials.cells, len(trials.values)
        _, group, members = np.unique(trials.networks, return_inverse=True, return_counts=True)
        several, replicated = (members > 1)[group], cells.counts > 1
        diagonal = scales**2 * np.where(several, 1 - shared, 1.0)
        if own:
            diagonal = diagonal + np.where(replicated[cells.config_of], 0.0, own)
        every, blocks = np.arange(n), np.where(several, np.sqrt(shared) * scales, 0.0)
        self.inverse = 1 / diagonal  # (trials,)
        self.blocks = sparse.csr_array((blocks, (every, group)), shape=(n, len(members)))
        self.inner = 1 + self.blocks.T.power(2) @ self.inverse  # (networks,)
        self.configs = sparse.csr_array((np.ones(n), (cells.config_of, every)), shape=(len(cells.counts), n))
        self.sums = self.configs @ self.inverse  # (configs,)
        self.shared = sparse.csr_array(self.configs @ sparse.diags_array(self.inverse) @ self.blocks)
        self.log_determinant = float(np.log(diagonal).sum() + np.log(self.inner).sum())
        self.replicated = np.flatnonzero(replicated) if own else np.zeros(0, np.int64)
        columns = np.zeros((len(cells.counts), len(self.replicated)))
        columns[self.replicated, np.arange(len(self.replicated))] = 1.0
        self.own = self._blocked(columns)
        schur = np.eye(len(self.replicated)) / (own or 1.0) + self.own[self.replicated]
        self.schur = np.linalg.inv(schur)
        self.log_determinant += float(np.linalg.slogdet(schur)[1] + len(self.replicated) * np.log(own or 1.0))

    def _blocked(self, values: Floats) -> Floats:
        return np.asarray(self.sums[:, None] * values - self.shared @ ((self.shared.T @ values) / self.inner[:, None]))

    def of_features(self, values: Floats) -> Floats:
        """C W C' times (configs, n)."""
        return self._blocked(values) - self.own @ (self.schur @ (self.own.T @ values))

    def of_trials(self, values: Floats) -> tuple[Floats, float]:
        """C W times (trials,), and the square of the values under W."""
        weighted = values * self.inverse
        of_networks = self.blocks.T @ weighted
        found = self.configs @ weighted - self.shared @ (of_networks / self.inner)
        part = self.schur @ found[self.replicated]
        square = values @ weighted - of_networks**2 @ (1 / self.inner) - found[self.replicated] @ part
        return np.asarray(found - self.own @ part), float(square)

    @cached_property
    def of_configs(self) -> Floats:
        """(configs,) the diagonal of C W C'."""
        blocked = self.sums - self.shared.power(2) @ (1 / self.inner)
        return np.asarray(blocked - ((self.own @ self.schur) * self.own).sum(1))


@dataclass(frozen=True)
class _Solution:
    """The model solved for one combination of the other widths, and every width of the parameters' effects."""

    centre: float
    configs: Floats  # (configs, features) along the axes: what multiplies the effects in a config's value
    offsets: Floats  # (configs,) what else it is, above the centre
    variances: Floats  # (configs,) of that, in units of the noise
    contrasts: Floats  # (levels, features) along the axes
    projections: Floats  # (features,)
    shrinkage: Floats  # (features, widths)
    variance: Floats  # (widths,) of the noise
    log_weight: Floats  # (widths,)

    def of_configs(self, width: int) -> tuple[Floats, Floats]:
        """(configs,) their values and the variances of these."""
        shrinkage = self.shrinkage[:, width]
        values = self.centre + self.offsets + self.configs @ (self.projections * shrinkage)
        return values, self.variance[width] * (self.configs**2 @ shrinkage + self.variances)

    def of_effects(self, width: int) -> tuple[Floats, Floats]:
        """(levels,) their effects and the variances of these."""
        shrinkage = self.shrinkage[:, width]
        effects = self.contrasts @ (self.projections * shrinkage)
        return effects, self.variance[width] * (self.contrasts**2 @ shrinkage)


def _solutions(trials: Trials, features: _Features, scales: Floats) -> Iterator[_Solution]:
    """The model for each combination of own width, share of the noise, and width of pairs, each as likely before."""
    replicates = trials.cells.replicates
    shown = replicates >= LEAST_REPLICATES and (trials.cells.counts > 1).sum() <= MOST_OWN
    owns = OWN_WIDTHS if shown else OWN_WIDTHS[:1]
    for own in owns:
        prior = 0.0 if len(owns) == 1 else np.log(0.5 if own == 0 else 0.5 / (len(owns) - 1))
        for shared in SHARED if replicates >= REPLICATES_FOR_SHARED else (USUAL_SHARED,):
            yield from _solve(trials, features, _Precision(trials, scales, own, shared), own, float(prior))


def _solve(trials: Trials, features: _Features, precision: _Precision, own: float, prior: float) -> Iterator[_Solution]:
    one = precision.of_features(np.ones((len(trials.cells.counts), 1)))[:, 0]
    total = float(one.sum())
    centre = float(precision.of_trials(trials.values)[0].sum()) / total
    values = trials.values - centre
    rows = features.rows - one @ features.rows / total
    weighted = precision.of_features(rows)
    weighted_values, square = precision.of_trials(values)
    products, sums = rows.T @ weighted, rows.T @ weighted_values
    configs, offsets = rows - own * weighted, own * weighted_values
    of_centre = (1 - own * one) ** 2 / total
    variances = of_centre + own - own**2 * precision.of_configs if own else of_centre
    for pair_width in PAIR_WIDTHS if features.pair.any() else PAIR_WIDTHS[:1]:
        factors = np.where(features.pair, np.sqrt(pair_width), 1.0)
        curvatures, axes = np.linalg.eigh(products * np.outer(factors, factors))
        curvatures, axes = np.maximum(0.0, curvatures), factors[:, None] * axes
        projections, shrinkage = axes.T @ sums, 1 / (curvatures[:, None] + 1 / WIDTHS)
        squares = square - projections**2 @ shrinkage
        freedom = len(values)  # less one for the centre, plus one of the images
        variance = (np.maximum(0.0, squares) + trials.image_noise**2) / freedom
        variance = np.maximum(variance, max(trials.image_noise**2, np.finfo(float).tiny))
        determinant = np.log1p(np.outer(curvatures, WIDTHS)).sum(0) + np.log(total) + precision.log_determinant
        likelihood = -0.5 * (determinant + (np.maximum(0.0, squares) + trials.image_noise**2) / variance)
        log_weight = prior + np.log(np.sqrt(WIDTHS) / (1 + WIDTHS)) + likelihood - 0.5 * freedom * np.log(variance)
        yield _Solution(
            centre=centre,
            configs=configs @ axes,
            offsets=offsets,
            variances=variances,
            contrasts=features.contrasts @ axes,
            projections=projections,
            shrinkage=shrinkage,
            variance=variance,
            log_weight=log_weight,
        )


def _plausible(solutions: list[_Solution]) -> Iterator[tuple[float, _Solution, int]]:
    """Each solution and width with a weight above NEGLIGIBLE; the largest weight is 1."""
    highest = max(solution.log_weight.max() for solution in solutions)
    for solution in solutions:
        weights = np.exp(solution.log_weight - highest)
        for width in np.flatnonzero(weights > NEGLIGIBLE):
            yield float(weights[width]), solution, int(width)


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
