"""The verdict: simulated worlds at ten seeds, and each branch of the rule."""

import numpy as np
import pytest

from study.select.interval import Crossed, seeds_needed
from study.select.verdict import Control, judge, rule
from tests.test_select_interval import IMAGES, POINT, draw

NAMES = ("the two-network ensemble", "generalists for experts", "the compute-matched ensemble")
REPETITIONS = 300

#: by world, the true gain and the true mixture minus each control, in points; and the least or most share of a verdict
WORLDS = {
    "null": ((0, (0, 0, 0)), {"improves": (0, 0.02), "no improvement": (0.4, 1), "ensemble effect": (0, 0.04)}),
    "gain 2 equals an ensemble": ((2, (0, 2, 2)), {"improves": (0, 0.04), "ensemble effect": (0.7, 1)}),
    "gain 3, one control ties": ((3, (0, 2, 2)), {"improves": (0, 0.06), "ensemble effect": (0.65, 1)}),
    "gain 1, half a point over each": ((1, (0.5, 0.5, 0.5)), {"improves": (0, 0.2), "inconclusive": (0.7, 1)}),
    "gain 2, 1 over each": ((2, (1, 1, 1)), {"improves": (0.5, 0.8), "no improvement": (0, 0.01)}),
    "gain 3, 2 over each": ((3, (2, 2, 2)), {"improves": (0.97, 1)}),
    "gain -1": ((-1, (0, 0, 0)), {"improves": (0, 0), "no improvement": (0.97, 1)}),
    "gain 0, below the controls": ((0, (-1, -1, -1)), {"improves": (0, 0), "ensemble effect": (0, 0.04)}),
}


def confirmed(rng, gain, over, seeds=10):
    """A drawn verdict: over seeds, the gain varies by 1.2 points and the mixture minus a control by 0.9."""
    gains = rng.normal(0, 1.2 * POINT, seeds)
    controls = {}
    for name, difference in zip(NAMES, over, strict=True):
        rows = rng.normal(0, 0.9 * POINT, seeds)
        controls[name] = Control(
            draw(rng, seeds, 0, persistent=0.04, mean=difference * POINT, rows=rows),
            draw(rng, seeds, 0, persistent=0.04, mean=(gain - difference) * POINT, rows=gains - rows),
        )
    return judge(draw(rng, seeds, 0, persistent=0.04, mean=gain * POINT, rows=gains), controls, POINT, seeds)


@pytest.mark.parametrize("world", WORLDS)
def test_verdicts_in_a_known_world(world):
    (gain, over), expected = WORLDS[world]
    rng = np.random.default_rng(7)
    words = [confirmed(rng, gain, over).word for _ in range(REPETITIONS)]
    for word, (least, most) in expected.items():
        assert least <= words.count(word) / REPETITIONS <= most, word


def sure(mean, seeds=10, half=0.2):
    """A difference in points with hardly any noise."""
    return Crossed(mean * POINT, (half * POINT / 2.3) ** 2, 1e-9, 1e-9, seeds, IMAGES)


def decide(gain, over, seeds=10, planned=10, half=0.2):
    controls = {
        name: Control(sure(each, seeds, half), sure(gain - each, seeds, half))
        for name, each in zip(NAMES, over, strict=True)
    }
    return judge(sure(gain, seeds, half), controls, POINT, planned)


@pytest.mark.parametrize(
    ("gain", "over", "word"),
    [
        (3, (1, 1, 1), "improves"),
        (3, (1, 1, 0), "ensemble effect"),
        (3, (1, 1, -2), "ensemble effect"),
        (0.5, (1, 1, 0.9), "improves"),  # controls below the baseline are beaten as well
        (0.5, (1, 1, 0.1), "ensemble effect"),
        (0.1, (0, 0, 0), "no improvement"),
        (0.3, (1, 1, 0.15), "inconclusive"),  # above 0, if by less than the margin
        (-2, (1, 1, 1), "no improvement"),
    ],
)
def test_the_rule(gain, over, word):
    assert decide(gain, over).word == word


def test_one_control_that_ties_is_named():
    why = decide(3, (1, 0, 1)).why
    assert NAMES[1] in why
    assert NAMES[0] not in why


def test_what_is_missing_is_a_number_of_seeds_for_the_comparisons_that_are_open():
    found = decide(3, (4, 1.1, 4), half=1.5)
    assert found.word == "inconclusive"
    assert NAMES[1] in found.why
    assert NAMES[0] not in found.why
    assert f"about {seeds_needed(POINT, sure(1.1, half=1.5).noise, IMAGES)} fresh seeds" in found.missing


def test_what_is_missing_is_more_seeds_than_those_that_did_not_decide():
    ten = decide(0.5, (1, 1, 1), half=0.6)  # ten resolve a point, and this is half of one
    assert ten.word == "inconclusive"
    assert seeds_needed(POINT, sure(0.5, half=0.6).noise, IMAGES) <= 10
    half = seeds_needed(POINT / 2, sure(0.5, half=0.6).noise, IMAGES)
    assert f"about {half} fresh seeds would resolve 0.5 points" in ten.missing
    assert half > 10


def test_few_or_failed_seeds_give_no_verdict():
    assert decide(3, (1, 1, 1), seeds=7, planned=7).word == "no verdict"
    assert decide(3, (1, 1, 1), seeds=8, planned=10).word == "no verdict"
    assert decide(3, (1, 1, 1), seeds=9, planned=10).word == "improves"


def test_the_rule_names_its_margin():
    assert "1.5 points" in rule(0.015)
