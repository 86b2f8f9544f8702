"""The expected value of each config, estimated from all trials of a study. Arithmetic only.

    value of a trial = centre + effects of its parameters + effects of pairs of parameters
                     + the config's own deviation + noise of the baseline it shares with others + its own noise

Effects are drawn from normal distributions, so levels with few trials are shrunk most. Only replicates separate a
config's own deviation from noise; where these are too few it counts as noise. Trials with the same baseline network
share a part of their noise. How wide the distributions are, in units of the noise, is averaged over, by marginal
likelihood (REML) and half-Cauchy priors (Gelman 2006): the one best width would make the error too small.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from study.select.covariance import Precision
from study.select.features import Features
from study.select.trials import (
    LEAST_REPLICATES,
    LEAST_SEEDS,
    PRIOR_FREEDOM,
    Bools,
    Floats,
    Ints,
    Trials,
    noise_scales,
    own_noise,
)

WIDTHS = np.geomspace(1e-3, 1e3, 41)  # variance of the parameters' effects over that of the noise
PAIR_WIDTHS = (0.0, 0.1, 0.3, 1.0, 3.0)  # variance of the pairs' effects over that of the parameters'
OWN_WIDTHS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)  # variance of configs' own deviations over that of the noise
SHARED = (0.0, 0.3, 0.6, 0.8, 0.9)  # share of the noise that trials of one baseline's chain have in common
USUAL_SHARED = 0.6  # until replicates show it
NEGLIGIBLE = 1e-4  # a combination of widths with less weight is left out
MOST_OWN = 300  # replicated configs; beyond, their own deviations count as noise
Z95 = 1.959964
DRAWS = 500  # of the effects, for the interval of an importance
WEIGHTLESS = 1e6  # the noise, relative to that of all, of a trial that was never run
REPLICATES_FOR_SHARED = 8  # that show how much of the noise is shared


class Importance(NamedTuple):
    """The share of the variance over the space that a parameter's own effects explain, with a 95 % interval.

    All levels that were tried have the same weight, however many trials a sampler gave them.
    """

    share: float
    low: float
    high: float
    chance: bool  # no more than chance: no effect is beyond noise, all levels of all parameters considered


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
    rest: float  # variance of the trials' values around the sums of the parameters' own effects

    @cached_property
    def trials(self) -> Floats:
        """(configs,) trials of each."""
        return np.bincount(self.config_of).astype(float)

    @cached_property
    def half(self) -> Floats:
        """(configs,) half the 95 % interval of the estimate; nan where a config has too few seeds to state it."""
        # a config's own noise is known from its own trials and the prior of `noise_scales`
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
        total = self.rest + sum(float(np.nanmean(each**2)) for each in self.effects if np.isfinite(each).any())
        for effects, errors in zip(self.effects, self.effect_errors, strict=True):
            tried = np.isfinite(effects)
            middle, error = effects[tried], errors[tried]
            if not tried.any() or not total:
                found.append(Importance(0.0, 0.0, 0.0, chance=True))
                continue
            draws = middle + error * draw.standard_normal((DRAWS, len(middle)))
            own, drawn = float((middle**2).mean()), ((draws - draws.mean(1, keepdims=True)) ** 2).mean(1)
            low, high = np.quantile(drawn / (total - own + drawn), (0.025, 0.975))
            share = own / total
            chance = bool((np.abs(middle) <= beyond * error).all())
            found.append(Importance(share, float(low), float(high), chance))
        return found

    def interval(self, config: int) -> tuple[float, float] | None:
        """The 95 % interval of a config's estimate, for new seeds and new images; None with too few seeds."""
        middle, half = float(self.estimate[config]), float(self.half[config])
        return None if np.isnan(half) else (middle - half, middle + half)


def predict(trials: Trials, levels: Sequence[int]) -> tuple[float, float | None]:
    """The estimate of a config, tried or not, and half its 95 % interval; None where too few replicates show the noise.

    Args:
        trials: at least one.
        levels: of each searched parameter, from 0.
    """
    stated = trials.cells.replicates >= LEAST_REPLICATES
    if (tried := (trials.levels == np.asarray(levels)).all(1)).any():
        found, config = fit(trials), trials.cells.config_of[tried.argmax()]
        half = (
            found.half[config] if trials.cells.counts[config] >= LEAST_SEEDS else found.quantile * found.error[config]
        )
        return float(found.estimate[config]), float(half) if stated else None
    unseen = replace(  # one more trial, of no weight
        trials,
        levels=np.vstack([trials.levels, np.asarray(levels, np.int64).reshape(1, trials.levels.shape[1])]),
        values=np.append(trials.values, trials.values.mean()),
        chains=np.append(trials.chains, trials.chains.max() + 1),
        noisy=np.append(trials.noisy, False),
    )
    found = fit(unseen, np.append(noise_scales(trials), WEIGHTLESS))
    config = found.config_of[-1]
    return float(found.estimate[config]), float(found.quantile * found.error[config]) if stated else None


def fit(trials: Trials, scales: Floats | None = None) -> Fit:
    """Fit the model to at least one trial.

    The image noise counts as one more observation of the noise, and the noise is never below it, so that the error
    of a few trials that happen to agree is not zero.

    Args:
        scales: (trials,) the noise of each, relative to that of all; by default what the replicates show.
    """
    cells, features = trials.cells, Features.of(trials)
    relative = noise_scales(trials) if scales is None else scales
    configs, effects, noise = _Average(), _Average(), _Average()
    for weights, solution in _plausible(list(_solutions(trials, features, relative))):
        configs.add(weights, *solution.of_configs())
        effects.add(weights, *solution.of_effects())
        noise.add(weights, solution.variance[None], np.zeros(1))
    estimate, error = configs.result()
    if scales is None:  # where an interval is stated, it is no surer than the config's own seeds alone
        own = np.sqrt(own_noise(trials) / cells.counts)
        error = np.where(cells.counts >= LEAST_SEEDS, np.maximum(error, own), error)
    middle, spread = effects.result()
    ends = np.cumsum(trials.sizes)[:-1]
    by_parameter = tuple(np.split(middle, ends)) if trials.sizes else ()
    sums = [np.nan_to_num(found)[levels] for found, levels in zip(by_parameter, trials.levels.T, strict=True)]
    return Fit(
        config_of=cells.config_of,
        estimate=estimate,
        error=np.sqrt(error**2 + trials.image_part),
        effects=by_parameter,
        effect_errors=tuple(np.split(spread, ends)) if trials.sizes else (),
        noise=float(np.sqrt(noise.result()[0][0])),
        quantile=float(stdtrit(len(trials.values), 0.975)) if len(trials.values) > 1 else Z95,
        means=cells.means,
        rest=float((trials.values - sum(sums)).var()),
    )


@dataclass(frozen=True)
class _Solution:
    """The model solved for one combination of the other widths, and several widths of the parameters' effects."""

    centre: float
    configs: Floats  # (configs, features) along the axes: what multiplies the effects in a config's value
    offsets: Floats  # (configs,) what else it is, above the centre
    variances: Floats  # (configs,) of that, in units of the noise
    contrasts: Floats  # (levels, features) along the axes
    projections: Floats  # (features,)
    shrinkage: Floats  # (features, widths)
    variance: Floats  # (widths,) of the noise
    log_weight: Floats  # (widths,)

    def of_configs(self) -> tuple[Floats, Floats]:
        """(configs, widths) their values and the variances of these."""
        values = (self.centre + self.offsets)[:, None] + self.configs @ (self.projections[:, None] * self.shrinkage)
        return values, self.variance * (self.configs**2 @ self.shrinkage + self.variances[:, None])

    def of_effects(self) -> tuple[Floats, Floats]:
        """(levels, widths) their effects and the variances of these."""
        effects = self.contrasts @ (self.projections[:, None] * self.shrinkage)
        return effects, self.variance * (self.contrasts**2 @ self.shrinkage)

    def of_widths(self, kept: Bools) -> "_Solution":
        """The same for some of the widths."""
        found = {name: getattr(self, name)[..., kept] for name in ("shrinkage", "variance", "log_weight")}
        return replace(self, **found)


def _solutions(trials: Trials, features: Features, scales: Floats) -> Iterator[_Solution]:
    """The model for each combination of own width, share of the noise, and width of pairs, each as likely before."""
    replicates = trials.cells.replicates
    shown = replicates >= LEAST_REPLICATES and (trials.cells.counts > 1).sum() <= MOST_OWN
    owns = OWN_WIDTHS if shown else OWN_WIDTHS[:1]
    for own in owns:
        prior = 0.0 if len(owns) == 1 else np.log(0.5 if own == 0 else 0.5 / (len(owns) - 1))
        for shared in SHARED if replicates >= REPLICATES_FOR_SHARED else (USUAL_SHARED,):
            yield from _solve(trials, features, Precision(trials, scales, own, shared), own, float(prior))


def _solve(trials: Trials, features: Features, precision: Precision, own: float, prior: float) -> Iterator[_Solution]:
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


def _plausible(solutions: list[_Solution]) -> Iterator[tuple[Floats, _Solution]]:
    """Each solution for its widths of a weight above NEGLIGIBLE, and these weights; the largest weight is 1."""
    highest = max(solution.log_weight.max() for solution in solutions)
    for solution in solutions:
        weights = np.exp(solution.log_weight - highest)
        if (kept := weights > NEGLIGIBLE).any():
            yield weights[kept], solution.of_widths(kept)


class _Average:
    """The mean and the standard deviation of mixtures of distributions, each with a weight, means and variances."""

    def __init__(self) -> None:
        self._weight, self._first, self._second = 0.0, np.zeros(1), np.zeros(1)

    def add(self, weights: Floats, means: Floats, variances: Floats) -> None:
        """More of them: (n,), and (mixtures, n) each."""
        self._weight += float(weights.sum())
        self._first = self._first + means @ weights
        self._second = self._second + (variances + means**2) @ weights

    def result(self) -> tuple[Floats, Floats]:
        """(mixtures,) the means and the standard deviations."""
        mean = self._first / self._weight
        return mean, np.sqrt(np.maximum(0.0, self._second / self._weight - mean**2))
