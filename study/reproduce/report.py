"""The comparison of a record with a new result as text."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from moe.console import table
from moe.result import Result
from study.reproduce.compare import CHANGED, Condition, Number, Value
from study.reproduce.original import Original
from study.select.choice import gain_noise, points

FIRST_ROWS = ("score.gain", "score.mixture_accuracy", "score.baseline_accuracy")  # shown also where they are equal
MORE_ROWS = 10  # the largest other differences


def describe_conditions(conditions: Sequence[Condition]) -> str:
    """What is the same as in the study, and what is not."""
    same = ", ".join(f"{one.name} {one.now}" for one in conditions if not one.differs)
    lines = [f"Same as in the study: {same or 'nothing'}"]
    if any(one.differs for one in conditions):
        lines.append(f"Different from the study: {_changes(conditions)}")
    return "\n".join(lines)


def _changes(conditions: Sequence[Condition]) -> str:
    return "; ".join(_change(one) for one in conditions if one.differs)


def _change(condition: Condition) -> str:
    then, now = (
        f"{word.removesuffix(CHANGED)} with changes" if word.endswith(CHANGED) else word
        for word in (condition.then, condition.now)
    )
    if then == now:
        return f"{condition.name} {then} both then and here, perhaps not the same ones"
    return f"{condition.name} {then}, here {now}"


def verdict(numbers: Sequence[Number]) -> str:
    """Identical or not, in one sentence."""
    different = _differences(numbers)
    if not different:
        return f"identical: all {len(numbers)} recorded numbers are the same, bit for bit"
    return f"differs: {len(different)} of {len(numbers)} numbers, {different[0].name} most"


def _differences(numbers: Sequence[Number]) -> list[Number]:
    return sorted((one for one in numbers if one.differs), key=lambda one: -one.distance)


def comparison_table(numbers: Sequence[Number]) -> str:
    """The gain and its two accuracies, then the largest other differences."""
    first = [one for one in numbers if one.name in FIRST_ROWS]
    others = [one for one in _differences(numbers) if one.name not in FIRST_ROWS]
    rows = [(one.name, _text(one.then), _text(one.now), _distance(one)) for one in (*first, *others[:MORE_ROWS])]
    if left := others[MORE_ROWS:]:
        most = f"at most {left[0].distance:.1e}" if left[0].distance < math.inf else ""
        rows.append((f"and {len(left)} more", "", "", most))
    return table(("", "study", "now", "difference"), rows)


def _text(value: Value | None) -> str:
    if value is None:
        return "none"
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _distance(number: Number) -> str:
    if not number.differs:
        return "same"
    if number.distance == math.inf:
        return "different"
    difference = float(number.now or 0) - float(number.then or 0)
    return f"{difference:+.1e}" if number.distance < 1e-4 else f"{difference:+.6g}"


def as_json(
    original: Original, result: Result, numbers: Sequence[Number], conditions: Sequence[Condition]
) -> dict[str, Any]:
    """The comparison for other programs, with the new result whole."""
    return {
        "study": original.study.name,
        "trial": original.record.trial,
        "identical": not _differences(numbers),
        "numbers": [asdict(one) for one in numbers],
        "conditions": [asdict(one) for one in conditions],
        "result": result.as_json(),
    }


def explanation(original: Result, result: Result, conditions: Sequence[Condition]) -> str:
    """How large the difference in gain is, and what may explain it."""
    if any(one.differs for one in conditions):
        reason = f"What may explain it: {_changes(conditions)}."
    else:
        reason = "Code and machine are those of the study: has the record been edited?"
    return (
        f"The gain differs by {points(result.gain - original.gain)} points from the study's {points(original.gain)}; "
        f"the standard error of one trial over its images is {100 * gain_noise(result):.2f}.\n{reason}"
    )
