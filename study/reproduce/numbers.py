"""Every number that a training decides, under a name for people, and how two results differ in them.

    result, as a record holds it --numbers--> {"gain": 0.0175, "gate, epoch 1: loss": 0.68, ...} --compare--> Comparison

Times and what came from the store play no part.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moe.metrics import Score
from moe.training.loop import Epoch

Value = float | str

SCORES = tuple(field.name for field in dataclasses.fields(Score))
OF_RUN = (*SCORES, "scored_examples", "parameters")
OF_EPOCH = tuple(field.name for field in dataclasses.fields(Epoch) if field.name != "seconds")
OF_STAGE = ("best_epoch", "stopped", "parameters")


@dataclass(frozen=True)
class Difference:
    """A number that is not the same."""

    name: str
    then: Value
    now: Value | None  # None where the new result has no such number

    @property
    def size(self) -> float:
        """How far they are apart; infinite between words, and where there is nothing to compare with."""
        if isinstance(self.then, str) or self.now is None or isinstance(self.now, str):
            return math.inf
        return abs(self.now - self.then)


@dataclass(frozen=True)
class Comparison:
    """What came of holding a new result against a record."""

    then: Mapping[str, Value]
    now: Mapping[str, Value]
    differences: tuple[Difference, ...]  # the largest first
    unrecorded: tuple[str, ...]  # numbers of the new result that the record lacks

    @property
    def identical(self) -> bool:
        """Whether every number of the record came out again, bit for bit."""
        return not self.differences


def compare(then: Mapping[str, Value], now: Mapping[str, Value]) -> Comparison:
    """Hold the numbers of a new result against those of a record."""
    found = [Difference(name, value, now.get(name)) for name, value in then.items() if now.get(name) != value]
    unrecorded = tuple(name for name in now if name not in then)
    return Comparison(then, now, tuple(sorted(found, key=lambda difference: -difference.size)), unrecorded)


def numbers(result: Mapping[str, Any]) -> dict[str, Value]:
    """The numbers of a result, as many as it has.

    Args:
        result: as `moe.Result.as_dict` gives it; older ones may lack some.

    Raises:
        ValueError: something in it is no number; the sentence begins with its name.
    """
    return {name: _checked(name, value) for name, value in _named(result)}


def _named(result: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from _some(result, OF_RUN, "")
    for stage, found in _entries("stages", result.get("stages", {})).items():
        found = _entries(stage, found)
        yield from _some(found, OF_STAGE, f"{stage}: ")
        if "epochs" not in found:
            continue
        if not isinstance(epochs := found["epochs"], list | tuple):
            raise ValueError(f"{stage}: epochs are {epochs!r}; expected a list")
        yield f"{stage}: epochs", len(epochs)
        for number, epoch in enumerate(epochs, 1):
            yield from _some(_entries(f"{stage}, epoch {number}", epoch), OF_EPOCH, f"{stage}, epoch {number}: ")


def _some(entries: Mapping[str, Any], names: tuple[str, ...], before: str) -> Iterator[tuple[str, Any]]:
    yield from ((before + name, entries[name]) for name in names if name in entries)


def _entries(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {value!r}; expected entries under names")
    return value


def _checked(name: str, value: Any) -> Value:
    if name.endswith(": stopped") and isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}; expected a number")
    return value
