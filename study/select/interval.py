"""How far a mean difference over seeds and images can be trusted, and what more seeds would resolve. Arithmetic only.

    (seeds, images) differences of right and wrong --crossed--> mean, interval, p

Every seed is scored on the same images, so that a difference varies with the seed, with the image and with both. The
interval is for new seeds and new images; beside it stands the narrower one for new seeds on these images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

FORMULA = "crossed seeds and images, version 2"  # part of a confirmation's plan: change it with the arithmetic
ALPHA = 0.05
POWER = 0.8
FEWEST_SEEDS = 5  # below that the interval covers less than it states
HOLM_SEEDS = 10  # from here on, p values with Satterthwaite's degrees of freedom keep Holm's error rate
PERSISTENT = 0.04  # share of the image noise that all seeds have in common, as measured on CIFAR-10
ROUNDING = 1e-20  # a smaller variance of a mean of right and wrong is none
MOST_SEEDS = 500  # that are looked for

Interval = tuple[float, float]


class Noise(NamedTuple):
    """What makes a difference of two accuracies vary."""

    seeds: float  # standard deviation between seeds, on infinitely many images
    discordance: float  # variance of one image's difference: about the share that exactly one of the two gets right
    persistent: float  # share of that which all seeds have in common


@dataclass(frozen=True)
class Crossed:
    """A mean over seeds and images, with its variances; all are fractions of the images."""

    mean: float
    between_seeds: float  # variance of the mean from the seeds: s
    between_images: float  # from the images, m
    both: float  # from seed and image together, e, which the other two hold as well
    seeds: int
    images: int

    @cached_property
    def variance(self) -> float:
        """Of the mean, for new seeds and new images; where that is nothing, what can be seen in the images."""
        found = max(self.between_seeds + self.between_images - self.both, self.between_seeds)
        return found or max(self.between_images, self.both)

    @cached_property
    def freedom(self) -> float:
        """Degrees of freedom of that variance, by Satterthwaite."""
        spread = self.between_seeds**2 / (self.seeds - 1) + self.between_images**2 / (self.images - 1)
        spread = spread or self.both**2 / ((self.seeds - 1) * (self.images - 1))
        return max(1.0, self.variance**2 / spread) if spread else math.inf

    @property
    def interval(self) -> Interval | None:
        """95 %, for new seeds and new images; None for fewer than five seeds."""
        return self._around(self.variance, self.freedom) if self.seeds >= FEWEST_SEEDS else None

    @property
    def same_images(self) -> Interval | None:
        """95 %, for new seeds on these images; None for fewer than five seeds."""
        return self._around(self.between_seeds, self.seeds - 1) if self.seeds >= FEWEST_SEEDS else None

    def _around(self, variance: float, freedom: float) -> Interval:
        half = _quantile(freedom, 1 - ALPHA / 2) * math.sqrt(variance)
        return self.mean - half, self.mean + half

    @property
    def image_part(self) -> float:
        """The standard error that remains with infinitely many seeds."""
        return math.sqrt(max(0.0, self.between_images - self.both))

    @property
    def p(self) -> float:
        """Two-sided, for a mean of 0; of few seeds with fewer degrees of freedom, as Holm's procedure needs."""
        if not self.variance:
            return 1.0 if self.mean == 0 else 0.0
        freedom = self.freedom if self.seeds >= HOLM_SEEDS else self.seeds - 1
        return float(2 * stdtr(min(freedom, 1e9), -abs(self.mean) / math.sqrt(self.variance)))

    @property
    def noise(self) -> Noise:
        """What was seen of seeds and images."""
        own, common = self.both * self.seeds, max(0.0, self.between_images - self.both)  # variances of a seed's mean
        deviation = math.sqrt(max(0.0, self.between_seeds * self.seeds - own))
        return Noise(deviation, (own + common) * self.images, common / (own + common) if own + common else 0.0)


def crossed(differences: NDArray[Any]) -> Crossed:
    """The mean of (seeds, images) differences and its variances.

    Raises:
        ValueError: there are fewer than two seeds or images.
    """
    seeds, images = differences.shape
    if min(seeds, images) < 2:
        raise ValueError(f"{seeds} seeds and {images} images; expected 2 or more of each")
    values = differences.astype(np.float64)
    rows, columns, mean = values.mean(1), values.mean(0), float(values.mean())
    rest = values - rows[:, None] - columns + mean
    return Crossed(
        mean=mean,
        between_seeds=_unrounded(float(rows.var(ddof=1)) / seeds),
        between_images=_unrounded(float(columns.var(ddof=1)) / images),
        both=float((rest**2).sum()) / ((seeds - 1) * (images - 1)) / (seeds * images),
        seeds=seeds,
        images=images,
    )


def _unrounded(variance: float) -> float:
    """A variance without what rounding makes of equal means; one image in a million makes more."""
    return variance if variance > ROUNDING else 0.0


def _quantile(freedom: float, probability: float) -> float:
    return float(stdtrit(min(freedom, 1e9), probability))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted for there being several, by Holm's procedure, in their order."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def resolves(seeds: int, noise: Noise, images: int) -> float:
    """The smallest true difference that so many seeds find in 80 % of cases."""
    image = noise.discordance / images
    variance = (noise.seeds**2 + (1 - noise.persistent) * image) / seeds + noise.persistent * image
    return (_quantile(seeds - 1, 1 - ALPHA / 2) + _quantile(seeds - 1, POWER)) * math.sqrt(variance)


def seeds_needed(difference: float, noise: Noise, images: int) -> int | None:
    """The fewest seeds that resolve a difference; None where 500 do not."""
    few = range(3, MOST_SEEDS + 1)
    return next((seeds for seeds in few if resolves(seeds, noise, images) <= difference), None)
