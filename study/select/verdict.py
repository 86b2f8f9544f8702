"""What a confirmation concludes, by a rule that stands in its output. Arithmetic only.

The mixture has to beat each of its decisive controls. As all of these comparisons must hold, each is made at 5 %
without an adjustment (intersection-union test); other statements are adjusted by Holm's procedure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from study.select.interval import Crossed, seeds_needed

Word = Literal["improves", "ensemble effect", "no improvement", "inconclusive", "no verdict"]

LEAST_SEEDS = 8  # for a verdict
COMPLETE_SHARE = 0.9  # of the planned seeds, for a verdict


def rule(margin: float) -> str:
    """The rule in words; the margin is a fraction."""
    return (
        "The rule, fixed before the test images were opened, of 95 % intervals for new seeds and new images: "
        "(1) improves: the gain is above 0, and so is the mixture minus each decisive control. "
        "(2) Else ensemble effect: the gain is above 0, and a decisive control is above the baseline, and the mixture "
        f"is less than {amount(margin)} above it. "
        f"(3) Else no improvement: the gain is not above 0 and less than {amount(margin)}. "
        f"(4) Else inconclusive. Fewer than {LEAST_SEEDS} seeds, or fewer than {100 * COMPLETE_SHARE:g} % of those "
        "planned, give no verdict."
    )


def amount(margin: float) -> str:
    """A margin in words."""
    return f"{100 * margin:g} point{'s' * (margin != 0.01)}"


class Control(NamedTuple):
    """A decisive control held against the mixture and against the baseline."""

    mixture_minus: Crossed
    minus_baseline: Crossed


@dataclass(frozen=True)
class Verdict:
    """A word, the reason, and what is missing where it is not decided."""

    word: Word
    why: str
    missing: str = ""


def judge(gain: Crossed, controls: Mapping[str, Control], margin: float, planned: int) -> Verdict:
    """The verdict on a config.

    Args:
        gain: mixture minus baseline.
        controls: the decisive ones, by their name in words.
        margin: a fraction; differences below it do not matter.
        planned: how many seeds were to be complete.
    """
    if gain.seeds < max(LEAST_SEEDS, COMPLETE_SHARE * planned):
        why = f"{gain.seeds} of {planned} planned seeds are complete"
        return Verdict(
            "no verdict", why, f"a verdict takes {LEAST_SEEDS} seeds and {100 * COMPLETE_SHARE:g} % of the plan"
        )
    beaten = [name for name, control in controls.items() if _low(control.mixture_minus) > 0]
    equals = [
        name
        for name, control in controls.items()
        if _low(control.minus_baseline) > 0 and _high(control.mixture_minus) < margin
    ]
    if _low(gain) > 0 and len(beaten) == len(controls):
        return Verdict("improves", "the mixture is above its baseline and above every decisive control")
    if _low(gain) > 0 and equals:
        return Verdict(
            "ensemble effect",
            f"the mixture is above its baseline, and so {'is' if len(equals) == 1 else 'are'} {_and(equals)}, "
            f"which the mixture exceeds by less than {amount(margin)}, if at all",
        )
    if _low(gain) <= 0 and _high(gain) < margin:
        return Verdict("no improvement", f"the gain is not above 0, and it is less than {amount(margin)}")
    open_ones = {} if _low(gain) > 0 else {"the baseline": gain}
    open_ones |= {name: control.mixture_minus for name, control in controls.items() if name not in beaten}
    return Verdict(
        "inconclusive", f"the mixture is not shown to be above {_and(list(open_ones))}", _missing(open_ones, margin)
    )


def _missing(undecided: Mapping[str, Crossed], margin: float) -> str:
    """How many seeds would decide these comparisons: more than those that did not."""
    seeds, images = next((each.seeds, each.images) for each in undecided.values())
    for size in (margin, margin / 2, margin / 4):
        needed = [seeds_needed(size, each.noise, images) for each in undecided.values()]
        if any(number is None for number in needed):
            return f"no number of seeds resolves {amount(size)} on {images} images"
        if (most := max(number for number in needed if number is not None)) > seeds:
            return f"about {max(most, LEAST_SEEDS)} fresh seeds would resolve {amount(size)} in these comparisons"
    return f"so many seeds resolve {amount(size)} in most cases; these differences are smaller"


def _low(difference: Crossed) -> float:
    return difference.interval[0] if difference.interval else difference.mean


def _high(difference: Crossed) -> float:
    return difference.interval[1] if difference.interval else difference.mean


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
