"""By how much the largest of many noisy values flatters itself. Arithmetic only; normal model throughout."""

import math

import numpy as np
from scipy.integrate import trapezoid
from scipy.special import ndtr

from study.choice import Choice

_REACH, _STEPS = 10.0, 20_001  # beyond ten standard deviations there is nothing to add


def expected_maximum(draws: int) -> float:
    """The mean of the largest of so many independent standard normal numbers: 0 for one, 2.25 for fifty."""
    x = np.linspace(0.0, _REACH, _STEPS)
    return max(0.0, float(trapezoid(1 - ndtr(x) ** draws - ndtr(-x) ** draws, x)))


def overshoot(draws: int, noise: float, spread: float) -> float:
    """How far the largest of so many noisy values lies above the truth behind it, on average.

    Args:
        draws: at least one.
        noise: standard deviation of a value around its truth.
        spread: standard deviation between the truths.
    """
    total = math.hypot(noise, spread)
    return expected_maximum(draws) * noise**2 / total if total else 0.0


def words(choice: Choice, trials: int, objective: str, scatter: float) -> str:
    """How noisy one trial is, and what that makes of the largest of all.

    Args:
        choice: it knows the noise and where that is from.
        trials: how many there are.
        objective: what is noisy.
        scatter: the standard deviation of trials around a model.
    """
    noise = (
        f"One trial's {objective.replace('_', ' ')} has a standard error of {100 * choice.noise:.2f} points, "
        f"{_ORIGINS[choice.noise_from]}."
    )
    if trials < 2:
        return noise
    equal = f"{100 * overshoot(trials, choice.noise, 0.0):.2f}"
    if not choice.spread:
        return (
            f"{noise} That explains all that they differ by; the largest of {trials} flatters itself by about {equal}."
        )
    sizes = [
        f"by about {100 * overshoot(trials, choice.noise, choice.spread):.2f} points if the true values spread by "
        f"{100 * choice.spread:.2f} points, as they seem to",
        f"by {equal} if all were equal",
    ]
    if choice.noise_from == "images" and scatter > choice.noise:
        apart = math.sqrt(max(0.0, choice.noise**2 + choice.spread**2 - scatter**2))
        sizes.append(
            f"by {100 * overshoot(trials, scatter, apart):.2f} if all of the {100 * scatter:.2f} points above are noise"
        )
    return f"{noise} The largest of {trials} such values flatters itself: {', '.join(sizes)}."


_ORIGINS = {
    "replicates": "from replicates on the same images",
    "images": "from its images alone; noise between seeds comes on top",
}
