"""Which config a study chooses, and what to expect of it. Arithmetic only.

The choice is the config with the highest estimate of the model. The best observed value is no estimate: of many noisy
values the largest is biased upward (winner's curse), by as much as `winners_curse` gives.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Self

import numpy as np
from scipy.integrate import trapezoid
from scipy.special import log_ndtr

from moe.config import Config
from moe.result import Result
from study.select.model import LEAST_REPLICATES, LEAST_SEEDS, Fit, Floats, Ints, fit
from study.study import Objective, Record, Study

COVERS = "further seeds on the same images"
_REACH, _STEPS = 8.0, 257  # standard deviations to either side of the largest truth, and steps of the integral


@dataclass(frozen=True)
class Choice:
    """The chosen config; values of the objective and gains are fractions."""

    objective: Objective
    config: Config  # with the seed of its first trial
    trials: tuple[int, ...]
    seeds: tuple[int, ...]
    configs: int  # that were tried
    mean: float  # observed
    estimate: float
    interval: tuple[float, float] | None  # 95 %, of the estimate, for further seeds on the same images
    gain: float  # observed mean
    gain_vs_best_baseline: float  # observed mean
    noise: float  # standard deviation of one trial
    noise_from: str  # replicates: between seeds on the same images; or images: between images for the same seed

    @property
    def beats_best_baseline(self) -> bool:
        """Whether its mixture is above the best baseline of the study at as many training examples."""
        return self.gain_vs_best_baseline > 0

    @property
    def why(self) -> str:
        """The choice in words; a loss to the best baseline comes first."""
        return " ".join(filter(None, [self.loss, self._estimate, self._interval]))

    @property
    def loss(self) -> str:
        """What the mixture lacks to the best baseline; empty where it lacks nothing."""
        if self.gain_vs_best_baseline >= 0:
            return ""
        gains = " its gain is over an under-trained baseline." if self.gain > 0 else " it gains nothing."
        return (
            f"The chosen config's mixture loses to the best baseline of its {self.config.train_examples} training "
            f"examples by {-100 * self.gain_vs_best_baseline:.2f} points:{gains}"
        )

    @property
    def _estimate(self) -> str:
        seeds = "its one seed" if len(self.seeds) == 1 else f"the mean of its {len(self.seeds)} seeds"
        many = "" if self.configs == 1 else f", the highest of {self.configs} configs"
        bias = "" if self.configs == 1 else "; the best observed value is biased upward (winner's curse)"
        return (
            f"Trial {self.trials[0]}'s config has an estimated {self.objective.replace('_', ' ')} of "
            f"{shown(self.estimate, self.objective)}{many}; {seeds} found {shown(self.mean, self.objective)}{bias}."
        )

    @property
    def _interval(self) -> str:
        if not self.interval:
            return f"No interval is stated: that takes {LEAST_SEEDS} seeds of the config."
        low, high = (shown(value, self.objective) for value in self.interval)
        return f"95 % interval for {COVERS}: {low} to {high}."


def image_noise(result: Result, objective: str) -> float:
    """The standard error of one trial's objective over its scored images; noise between seeds comes on top.

    A gain has outcomes -1, 0 and 1 per image, an accuracy 0 and 1.
    """
    value = float(getattr(result.score, objective))
    second_moment = result.score.discordance if objective == "gain" else value
    return math.sqrt(max(0.0, second_moment - value**2) / result.scored_examples)


@dataclass(frozen=True)
class Observations:
    """What complete trials found of one objective, as the model takes it."""

    levels: Ints  # (trials, parameters) of each searched parameter, from 0
    sizes: tuple[int, ...]  # levels of each parameter
    values: Floats  # (trials,)
    noises: Floats  # (trials,) standard errors of the values over their images

    @classmethod
    def of(cls, study: Study, complete: Sequence[Record], objective: Objective) -> Self:
        """Those of complete trials."""
        grids = study.space.grids
        points = [list(study.space.point(record.config).values()) for record in complete]
        return cls(
            levels=np.array(points, dtype=np.int64).reshape(len(points), len(grids)),
            sizes=tuple(map(len, grids.values())),
            values=np.array([record.objective(objective) for record in complete]),
            noises=np.array([image_noise(record.done, objective) for record in complete]),
        )

    @property
    def image_noise(self) -> float:
        """The standard error of one value over its images."""
        return math.sqrt(float((self.noises**2).mean()))

    def first(self, trials: int) -> "Observations":
        """Those of the first so many trials."""
        return Observations(self.levels[:trials], self.sizes, self.values[:trials], self.noises[:trials])

    @cached_property
    def fit(self) -> Fit:
        """The model of at least one trial."""
        return fit(self.levels, self.values, self.sizes, self.image_noise)


def best_baselines(complete: Sequence[Record]) -> dict[int, float]:
    """Per number of training examples the highest accuracy of a baseline."""
    found: dict[int, float] = {}
    for record in complete:
        examples, accuracy = record.config.train_examples, record.done.score.baseline_accuracy
        found[examples] = max(accuracy, found.get(examples, 0.0))
    return found


def choose(study: Study, complete: Sequence[Record], found: Observations | None = None) -> Choice | None:
    """The config with the highest estimate; None without a complete trial.

    Args:
        complete: the complete trials.
        found: what they found of the study's objective, where that is there already.
    """
    if not complete:
        return None
    found = found or Observations.of(study, complete, study.objective)
    fitted, best = found.fit, found.fit.best
    chosen = [record for record, config in zip(complete, fitted.config_of, strict=True) if config == best]
    scores = [record.done.score for record in chosen]
    baseline = best_baselines(complete)[chosen[0].config.train_examples]
    freedom = len(complete) - len(fitted.estimate)
    replicated = freedom >= LEAST_REPLICATES
    spread = float(((found.values - fitted.means[fitted.config_of]) ** 2).sum())
    return Choice(
        objective=study.objective,
        config=chosen[0].config,
        trials=tuple(record.trial for record in chosen),
        seeds=tuple(record.config.seed for record in chosen),
        configs=len(fitted.estimate),
        mean=float(fitted.means[best]),
        estimate=float(fitted.estimate[best]),
        interval=fitted.interval(best),
        gain=fmean(score.gain for score in scores),
        gain_vs_best_baseline=fmean(score.mixture_accuracy for score in scores) - baseline,
        noise=math.sqrt(spread / freedom) if replicated else found.image_noise,
        noise_from="replicates" if replicated else "images",
    )


def winners_curse(truths: Floats, counts: Floats, noise: float) -> float:
    """How far the largest of many noisy values lies above the truth behind it, on average; the noise is normal.

    Args:
        truths: (N,) as many as there are; they need not be normal.
        counts: (N,) values around each, at least one.
        noise: standard deviation of a value around its truth.
    """
    if not noise:
        return 0.0
    # the largest of all is one around the largest truth, or above that
    x = truths.max() + noise * np.linspace(-_REACH, _REACH, _STEPS)  # (steps,)
    z = (x[:, None] - truths) / noise  # (steps, N)
    below = log_ndtr(z)
    density = counts * np.exp((below @ counts)[:, None] - below - z**2 / 2) / math.sqrt(2 * math.pi)  # of being largest
    return float(trapezoid((density * z).sum(1), x))


def points(fraction: float) -> str:
    """A difference of fractions in percentage points, with its sign."""
    return f"{100 * fraction:+.2f}"


def shown(value: float, objective: str, unit: bool = True) -> str:
    """A value of the objective: a gain in points with its sign, an accuracy in percent."""
    if objective == "gain":
        return points(value) + " points" * unit
    return f"{100 * value:.2f}" + " %" * unit
