"""A fault: what goes wrong, where, what is promised then, and the check of that promise."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tests.faults


class SkippedError(Exception):
    """This machine cannot have the fault; the sentence says why."""


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    kind: str  # A1 to H39, as in the list of faults by kind
    what: str  # goes wrong
    where: str  # the module or command that has to live with it
    promise: str
    check: Callable[[Path], object]  # in an empty folder; raises an AssertionError where the promise is broken

    @property
    def name(self) -> str:
        """The row in a line."""
        return f"{self.kind} {self.where}: {self.what}"


def faults() -> list[Fault]:
    """All rows of all modules, by kind."""
    found: list[Fault] = []
    for module in pkgutil.iter_modules(tests.faults.__path__, "tests.faults."):
        if module.name.endswith("_rows"):
            found += getattr(importlib.import_module(module.name), "FAULTS", ())
    return sorted(found, key=lambda fault: (fault.kind[0], int(fault.kind[1:])))
