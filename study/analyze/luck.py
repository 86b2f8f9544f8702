"""By how much the largest of many noisy values flatters itself. Arithmetic only; the noise is normal."""

import math

import numpy as np
from scipy.integrate import trapezoid
from scipy.special import log_ndtr

from study.select.choice import Choice, points
from study.select.model import Fit, Floats

_REACH, _STEPS = 8.0, 257  # beyond eight standard deviations there is nothing to add


def overshoot(truths: Floats, counts: Floats, noise: float) -> float:
    """How far the largest of all noisy values lies above the truth behind it, on average.

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


def words(choice: Choice, fit: Fit, values: Floats, trial: int, objective: str) -> str:
    """How noisy one trial is, and what that makes of the largest of all.

    Args:
        choice: it knows the noise and where that is from.
        fit: of the values.
        values: (trials,) what they found.
        trial: the number of the one that found most.
        objective: what that is.
    """
    said = (
        f"One trial's {objective.replace('_', ' ')} has a standard error of {100 * choice.noise:.2f} points, "
        f"{_ORIGINS[choice.noise_from]}."
    )
    if len(values) < 2:
        return said
    counts = np.bincount(fit.config_of).astype(float)
    sizes = [
        f"by about {100 * overshoot(fit.estimate, counts, choice.noise):.2f} points if the estimates are the truth",
        f"by {100 * overshoot(np.zeros(1), np.array([len(values)]), choice.noise):.2f} if all configs were equal",
    ]
    if choice.noise_from == "images" and fit.noise > choice.noise:
        most = 100 * overshoot(fit.estimate, counts, fit.noise)
        sizes.append(f"by {most:.2f} if all of the {100 * fit.noise:.2f} points above are noise")
    best = int(values.argmax())
    found, estimate = (shown(objective, value) for value in (values[best], fit.estimate[fit.config_of[best]]))
    return (
        f"{said} The largest of {len(values)} single trials flatters itself: {', '.join(sizes)}. Here: trial {trial} "
        f"found {found}, its config's estimate is {estimate}."
    )


def shown(objective: str, value: float) -> str:
    """A value of the objective in points or in percent, without the unit."""
    return points(value) if objective == "gain" else f"{100 * value:.2f}"


_ORIGINS = {
    "replicates": "from replicates on the same images",
    "images": "from its images alone; noise between seeds comes on top",
}
