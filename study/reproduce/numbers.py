"""Every number that a training decides, under a name for people, and how two results differ in them.

    result, as a record holds it --numbers--> {"gain": 0.0175, "gate, epoch 1: loss": 0.68, ...} --compare--> Comparison

Times and what came from the store play no part.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from moe.result import Epoch, Result
from moe.schema import fields

Value = float | str

OF_EPOCH = tuple(name for name in fields(Epoch) if name != "seconds")
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


def numbers(result: Result) -> dict[str, Value]:
    """The numbers of a result that its config and seed decide, each under a name for people."""
    found: dict[str, Value] = {**dict(result.score), "scored_examples": result.scored_examples}
    found["parameters"] = result.totals.parameters
    for stage, one in result.stages.items():
        found |= {f"{stage}: {name}": getattr(one, name) for name in OF_STAGE}
        found[f"{stage}: epochs"] = len(one.epochs)
        for number, epoch in enumerate(one.epochs, 1):
            found |= {f"{stage}, epoch {number}: {name}": getattr(epoch, name) for name in OF_EPOCH}
    return found
