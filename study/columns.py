"""The columns of trials.csv, and what may stand under each name; anything else is damage. No pandas."""

import reprlib
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

#: the columns of trials.csv, in order; each is a field of a record, of its config or of its result
COLUMNS = {
    "trial": "Int64", "phase": "string", "state": "string", "replicate": "Int64", "seed": "Int64", "dataset": "string",
    "protocol": "string", "precision": "string", "epochs": "Int64", "batch_size": "Int64",
    "train_examples": "Int64", "test_examples": "Int64",
    "use_large_experts": "boolean", "use_large_gating_mlp": "boolean", "use_large_baseline_classifier": "boolean",
    "learning_rate": "float64", "patience": "Int64", "gain": "float64", "mixture_accuracy": "float64",
    "baseline_accuracy": "float64", "gate_accuracy": "float64", "artificial_accuracy": "float64",
    "natural_accuracy": "float64", "oracle_gate_accuracy": "float64", "average_accuracy": "float64",
    "discordance": "float64", "parameters": "Int64", "seconds": "float64", "seconds_reused": "float64",
    "epochs_trained": "Int64", "epochs_reused": "Int64", "device": "string", "threads": "Int64", "error": "string",
}  # fmt: skip

#: what reading and checking a file may raise
DAMAGE = (KeyError, TypeError, ValueError, RecursionError, OverflowError, OSError)

_TEXTS = ("traceback", "instructions", "data", "source", "data_folder")  # of a record or of a study
_MOMENTS = ("started", "ended")
_KINDS = {**COLUMNS, "scored_examples": "Int64", **dict.fromkeys(_TEXTS, "string"), **dict.fromkeys(_MOMENTS, "moment")}
_TYPES: dict[str, tuple[type, ...]] = {
    "Int64": (int,), "float64": (int, float), "boolean": (bool,), "string": (str,), "moment": (str,),
}  # fmt: skip
_WORDS = {
    "Int64": "a whole number", "float64": "a number", "boolean": "true or false", "string": "text",
    "moment": "a time like 2026-01-31T12:00:00+00:00",
}  # fmt: skip
_MOST: dict[str, float] = {"Int64": 2**63 - 1, "float64": sys.float_info.max}
_RANGES: dict[str, tuple[int, int | None]] = {
    "gain": (-1, 1),
    "discordance": (0, 1),
    "trial": (1, None),
    "scored_examples": (1, None),
}


def check(entries: Mapping[str, Any], needed: Iterable[str]) -> None:
    """Raise a ValueError if an entry is missing, or is not of its column's kind; null is as good as missing."""
    for name in needed:
        if entries.get(name) is None:
            raise ValueError(f"{name} is missing")
    for name, value in entries.items():
        if value is not None and name in _KINDS and not _fits(name, value):
            raise ValueError(f"{name} is {reprlib.repr(value)}; expected {_expected(name)}")


def why_damaged(error: Exception) -> str:
    """The reason in words, without what only Python would say."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is no text"
    if isinstance(error, OSError):
        return (error.strerror or "it cannot be read").lower()
    return str(error.args[0]) if isinstance(error, KeyError) else str(error)


def _fits(name: str, value: Any) -> bool:
    kind = _KINDS[name]
    of_kind = isinstance(value, _TYPES[kind]) and isinstance(value, bool) is (kind == "boolean")
    if kind == "moment":
        return of_kind and _is_moment(value)
    return of_kind and (kind not in _MOST or _in_range(name, value))


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return True


def _in_range(name: str, value: float) -> bool:
    low, high = _range(name)
    return low <= value <= (_MOST[_KINDS[name]] if high is None else high)  # nan and infinity are not


def _range(name: str) -> tuple[int, int | None]:
    return _RANGES.get(name) or (0, 1 if name.endswith("_accuracy") else None)


def _expected(name: str) -> str:
    kind, (low, high) = _KINDS[name], _range(name)
    if kind not in _MOST:
        return _WORDS[kind]
    return f"{_WORDS[kind]} from {low}" + ("" if high is None else f" to {high}")
