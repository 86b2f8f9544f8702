"""Sizes, times and chains as people write and read them."""

import argparse
import dataclasses
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from moe.config import Config
from moe.store.inventory import Entry

UNITS = {
    unit: 1000**power if len(unit) == 2 else 1024**power
    for power, units in enumerate((("kB", "KiB"), ("MB", "MiB"), ("GB", "GiB"), ("TB", "TiB")), 1)
    for unit in units
}
_FACTORS = {"": 1} | {unit.lower(): factor for unit, factor in UNITS.items()}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([a-z]*)", re.IGNORECASE)


def size(text: str) -> int:
    """Parse a number of bytes, such as 500000000, 20GB or 1.5 TiB."""
    found = _SIZE.fullmatch(text)
    factor = _FACTORS.get(found[2].lower()) if found else None
    if not found or not factor:
        raise argparse.ArgumentTypeError(
            f"is {text!r}; expected a number of bytes from 0 on, which {', '.join(UNITS)} may follow"
        )
    return int(Decimal(found[1]) * factor)


def human(count: int) -> str:
    """A number of bytes."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def ago(seconds: float) -> str:
    """How long ago something was; by another machine's clock it may be yet to come."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def counted(number: int, thing: str) -> str:
    """A number of things: 1 chain, 2 chains."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def table(entries: Iterable[Entry], now: float) -> str:
    """Chains, one line each, under a line of headings.

    Args:
        now: in seconds since 1970.
    """
    rows = [_HEAD, *(_row(entry, now) for entry in entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if heading in _NUMBERS else cell.ljust(width)
            for heading, cell, width in zip(_HEAD, row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


_HEAD = ("stage", "network", "train_examples", "epochs", "else", "predictions", "size", "last use", "address")
_NUMBERS = {"train_examples", "predictions", "size", "last use"}


def _row(entry: Entry, now: float) -> tuple[str, ...]:
    spec = entry.manifests[0].spec if entry.manifests else {}
    return (
        entry.stage,
        str(spec.get("network", "")),
        str(spec.get("train_examples", "")),
        _epochs(entry),
        _else(spec),
        str(entry.predictions),
        human(entry.bytes),
        "unknown" if entry.used is None else ago(now - entry.used),
        entry.address[:8],
    )


def _epochs(entry: Entry) -> str:
    if not entry.manifests:
        return "unreadable" if entry.unreadable else "none yet"
    return f"{entry.epochs}, stopped" if entry.manifests[0].end is None else str(entry.epochs)


def _else(spec: dict[str, Any]) -> str:
    """The choices that have no column, where they are not the defaults."""
    fields = [field for field in dataclasses.fields(Config) if field.name in spec and field.name not in _HEAD]
    return " ".join(f"{field.name}={spec[field.name]}" for field in fields if spec[field.name] != field.default)
