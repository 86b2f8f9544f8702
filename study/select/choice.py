"""Which config a study chooses, and what is to be expected of it. Arithmetic only.

The largest of many noisy gains flatters itself. So the choice is made on each config's mean over its seeds, shrunk
towards the mean of all configs by as much as noise explains their spread (empirical Bayes; normal model with known
noise, Efron and Morris 1975), and the interval is the shrunk estimate's, the error of that common mean included.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

from scipy import stats

from moe.result import Result
from study.study import Record, Study

Z95 = 1.959964
LEAST_REPLICATES = 3  # degrees of freedom from which replicates tell the noise better than one trial's images


@dataclass(frozen=True)
class Choice:
    """The chosen config; objective values in its own unit, a fraction."""

    config: dict[str, Any]  # without its seed
    trials: tuple[int, ...]
    seeds: tuple[int, ...]
    mean: float  # as observed
    estimate: float  # shrunk
    low: float  # of the 95 % interval, on these images
    high: float
    noise: float  # standard deviation of one trial
    noise_from: str  # replicates or images
    spread: float  # standard deviation between the configs' true values
    configs: int


def image_noise(result: Result, objective: str) -> float:
    """The standard error of one trial's objective over its scored images; noise between seeds comes on top.

    A gain has outcomes -1, 0 and 1 per image, an accuracy 0 and 1.
    """
    value = float(getattr(result.score, objective))
    second_moment = result.score.discordance if objective == "gain" else value
    return math.sqrt(max(0.0, second_moment - value**2) / result.scored_examples)


def choose(study: Study, complete: Sequence[Record]) -> Choice | None:
    """The config with the highest shrunk estimate among the complete trials; None where there are none."""
    groups: dict[int, list[Record]] = defaultdict(list)
    for record in complete:
        groups[study.space.position(study.space.point(record.config))].append(record)
    if not groups:
        return None
    values = {place: [r.objective(study.objective) for r in group] for place, group in groups.items()}
    means = {place: fmean(found) for place, found in values.items()}
    noise, noise_from, quantile = _noise(study, complete, list(values.values()))
    errors = {place: noise**2 / len(found) for place, found in values.items()}  # variances of the means
    spread = _spread(list(means.values()), list(errors.values()))
    centre, centre_error = fmean(means.values()), (spread**2 + fmean(errors.values())) / len(means)

    def shrink(place: int) -> tuple[float, float]:
        """The estimate and its standard error, that of the centre included."""
        weight = spread**2 / (spread**2 + errors[place]) if spread > 0 else 0.0
        estimate = centre + weight * (means[place] - centre)
        return estimate, math.sqrt(weight * errors[place] + (1 - weight) ** 2 * centre_error)

    best = max(means, key=lambda place: (shrink(place)[0], means[place]))
    estimate, error = shrink(best)
    return Choice(
        config={name: value for name, value in groups[best][0].config if name != "seed"},
        trials=tuple(record.trial for record in groups[best]),
        seeds=tuple(record.config.seed for record in groups[best]),
        mean=means[best],
        estimate=estimate,
        low=estimate - quantile * error,
        high=estimate + quantile * error,
        noise=noise,
        noise_from=noise_from,
        spread=spread,
        configs=len(groups),
    )


def _noise(study: Study, complete: Sequence[Record], values: list[list[float]]) -> tuple[float, str, float]:
    """The standard deviation of one trial, where it is from, and how many of them an interval takes on each side.

    Pooled over replicates if there are enough: then it is the noise between seeds, on the same images. Else over
    images: the noise between images, with the same seed.
    """
    freedom = sum(len(found) - 1 for found in values)
    if freedom >= LEAST_REPLICATES:
        pooled = sum(variance(found) * (len(found) - 1) for found in values if len(found) > 1) / freedom
        return math.sqrt(pooled), "replicates", float(stats.t.ppf(0.975, freedom))
    squares = [image_noise(r.done, study.objective) ** 2 for r in complete]
    return math.sqrt(fmean(squares)), "images", Z95


def _spread(means: list[float], errors: list[float]) -> float:
    """The standard deviation of the true values: what noise does not explain of the means' variance."""
    return math.sqrt(max(0.0, variance(means) - fmean(errors))) if len(means) > 1 else 0.0


def why(choice: Choice, objective: str) -> str:
    """The choice in words."""
    seeds = f"{len(choice.trials)} seed{'s' if len(choice.trials) > 1 else ''}"
    mean, estimate, low, high = (_shown(x, objective) for x in (choice.mean, choice.estimate, choice.low, choice.high))
    return (
        f"highest {objective} of {choice.configs} configs after shrinkage: observed {mean} over {seeds}, expected "
        f"{estimate} (95 % interval {low} to {high}); one trial's noise is {100 * choice.noise:.2f} points "
        f"(from {choice.noise_from}), the configs' spread {100 * choice.spread:.2f}"
    )


def _shown(value: float, objective: str) -> str:
    return f"{points(value)} points" if objective == "gain" else f"{100 * value:.2f} %"


def points(fraction: float) -> str:
    """A difference of fractions in percentage points, with its sign."""
    return f"{100 * fraction:+.2f}"
