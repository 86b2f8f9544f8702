"""A recorded result and a new one: every number of both, and the conditions that they were computed under. No torch.

Equal numbers are promised where config, data, code, versions, device and instruction set are equal.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from moe.result import Result, Right
from moe.schema import Model
from study import machine
from study.reproduce.original import Original

Value = float | str

PACKAGES = ("torch", "numpy", "python")  # that a training uses
HASH_LENGTH = 12  # characters shown of a commit or a fingerprint
CHANGED = "+"  # ends a commit where files were changed since

#: fields of a result that are conditions, times, or about reuse, and not numbers to compare
SKIPPED = {"config", "dataset", "data", "device", "instructions"}
SKIPPED |= {"seconds", "seconds_reused", "epochs_trained", "epochs_reused"}


@dataclass(frozen=True)
class Condition:
    """Something that numbers depend on besides the config, in the study and here."""

    name: str
    then: str
    now: str

    @property
    def differs(self) -> bool:
        """Whether it is not surely the same; changes since a commit may be others each time."""
        return self.then != self.now or self.now.endswith(CHANGED)


def conditions(original: Original, *, device: str, instructions: str, data: str) -> list[Condition]:
    """All of them; the arguments are those here, in the words of a `Result`."""
    then, versions, here = original.result, original.run.versions, machine.versions()
    return [
        *(Condition(name, versions.get(name, "not recorded"), here[name]) for name in PACKAGES),
        Condition("device", then.device, device),
        Condition("instruction set", then.instructions, instructions),
        Condition("data", then.data[:HASH_LENGTH], data[:HASH_LENGTH]),
        Condition("code", _commit(original.run.commit, "not recorded"), _commit(machine.commit(), "unknown")),
    ]


def _commit(commit: str | None, missing: str) -> str:
    if commit is None:
        return missing
    return commit[:HASH_LENGTH] + CHANGED * commit.endswith(CHANGED)


@dataclass(frozen=True)
class Number:
    """A number of a result, or a word such as "patience"; None where that result lacks it."""

    name: str
    then: Value | None
    now: Value | None

    @property
    def differs(self) -> bool:
        """Whether it is not the same, bit for bit."""
        return self.then != self.now

    @property
    def distance(self) -> float:
        """How far apart they are; infinite where one is missing or a word."""
        if isinstance(self.then, float | int) and isinstance(self.now, float | int):
            return abs(self.now - self.then)
        return math.inf if self.differs else 0.0


def compare(then: Result, now: Result) -> list[Number]:
    """Every number of a recorded result and of a new one."""
    before, after = dict(_numbers(then)), dict(_numbers(now))
    return [Number(name, before.get(name), after.get(name)) for name in before | after]


def _numbers(value: object, path: str = "") -> Iterator[tuple[str, Value]]:
    """The numbers that config and seed decide, by their path in the result; epochs count from 1."""
    match value:
        case Right():
            yield path, hashlib.sha256(value.model_dump_json().encode()).hexdigest()[:HASH_LENGTH]
            return
        case None:
            return
        case Model() | Mapping():
            parts = [(name, part) for name, part in dict(value).items() if name not in SKIPPED]
        case tuple():
            parts = list(enumerate(value, 1))
        case float() | int() | str():
            yield path, value
            return
        case _:
            raise TypeError(f"{path} is {value!r}; expected a number or a word")
    for name, part in parts:
        yield from _numbers(part, f"{path}.{name}" if path else str(name))
