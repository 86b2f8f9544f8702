"""Faults of the stage store."""

from tests.faults.table import Fault

FAULTS: tuple[Fault, ...] = ()
