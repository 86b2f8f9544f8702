"""A study's folder: what it is, one JSON record per trial, and the lock of the driver that writes them.

    results/<name>/study.json         what is searched and how, fixed from the first trial on
                   trials/0001.json   one record per trial, replaced whole when the trial ends
                   .lock              held by the driver at work, freed by the system when it dies

Everything else in the folder is derived from these. Only the driver writes here.
"""

import dataclasses
import datetime
import fcntl
import json
import os
import reprlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe.config import IMAGES, PRECISIONS, Config
from study.columns import DAMAGE, check, why_damaged
from study.space import SAMPLERS, Space

OBJECTIVES = ("gain", "mixture_accuracy")
RUNNING, COMPLETE, FAILED = "running", "complete", "failed"
SEARCH = "search"
LOST = "the worker ended without a word: killed, out of memory, or its node was lost"
SEED_STRIDE = 1000  # between the seeds of two studies


_CHOICES = {"objective": OBJECTIVES, "sampler": SAMPLERS, "protocol": tuple(IMAGES), "precision": PRECISIONS}
_NEEDED = ("trial", "state", "replicate", "config", "started")  # of a record
_NUMBERS = (  # of a complete one's result
    *OBJECTIVES, "baseline_accuracy", "gate_accuracy", "discordance", "scored_examples",
    "seconds", "seconds_reused", "epochs_trained", "epochs_reused",
)  # fmt: skip


class FolderError(Exception):
    """A study folder that cannot be used; the sentence says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study searches, and how. Two runs of one study agree in all of this but `trials`."""

    name: str
    space: Space
    objective: str  # the field of a trial's result that the study maximises
    sampler: str
    seed: int
    protocol: str
    precision: str
    dataset: str
    data: str  # the data set's fingerprint
    source: str  # the data in words, and why these
    data_folder: str | None  # where they were read, as given
    trials: int  # complete trials to reach

    def __post_init__(self) -> None:
        for name, valid in _CHOICES.items():
            if (value := getattr(self, name)) not in valid:
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(valid)}")
        for name in ("seed", "trials"):
            if type(value := getattr(self, name)) is not int or value < 0:
                raise ValueError(f"{name} is {value!r}; expected a whole number from 0")
        check(vars(self), ("dataset", "data", "source"))

    def seed_of(self, replicate: int) -> int:
        """The seed of a config's trials, by how many came before; the same for all configs."""
        return SEED_STRIDE * self.seed + replicate

    def common(self, replicate: int) -> dict[str, Any]:
        """What the study, and not the point of the space, decides of a config."""
        return {"protocol": self.protocol, "precision": self.precision, "seed": self.seed_of(replicate)}

    def as_dict(self) -> dict[str, Any]:
        """The study as JSON takes it."""
        return {**dataclasses.asdict(self), "space": self.space.as_dict()}

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> "Study":
        """The study that `as_dict` wrote down."""
        names = [field.name for field in dataclasses.fields(cls)]
        if missing := [name for name in names if name not in entries]:
            raise ValueError(f"{missing[0]} is missing")
        return cls(**{**{name: entries[name] for name in names}, "space": _space(entries["space"])})


def _space(entries: Any) -> Space:
    try:
        return Space.from_dict(entries)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"space is {reprlib.repr(entries)}; expected name, grids and fixed") from None


@dataclass(frozen=True, kw_only=True)
class Record:
    """One trial: a config trained once with one seed."""

    trial: int  # from 1
    phase: str = SEARCH
    state: str = RUNNING
    replicate: int  # how many trials of this config came before it; it decides the seed
    config: dict[str, Any]
    result: dict[str, Any] | None = None  # once complete: see moe.Result.as_dict
    error: str | None = None  # once failed: one sentence
    traceback: str | None = None
    started: str
    ended: str | None = None

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> "Record":
        """The record that was written down; what it holds is still to be checked."""
        if missing := [name for name in _NEEDED if name not in entries]:
            raise ValueError(f"{missing[0]} is missing")
        if unknown := sorted(entries.keys() - {field.name for field in dataclasses.fields(cls)}):
            raise ValueError(f"{unknown[0]} is not known")
        return cls(**entries)

    def check(self, study: Study) -> None:
        """Raise a ValueError, KeyError or TypeError with the reason if this cannot be what the study wrote."""
        check(vars(self), _NEEDED)
        if self.state not in (RUNNING, COMPLETE, FAILED):
            raise ValueError(f"state is {self.state!r}; expected {RUNNING}, {COMPLETE} or {FAILED}")
        if not isinstance(self.config, dict):
            raise ValueError(f"config is {reprlib.repr(self.config)}; expected fields and values")
        if unknown := sorted(self.config.keys() - {field.name for field in dataclasses.fields(Config)}):
            raise ValueError(f"its config has {unknown[0]}, which is not known")
        study.space.point(self.config)
        for name, value in {**Config(**self.config).as_dict(), **study.common(self.replicate)}.items():
            if self.config.get(name) != value:
                raise ValueError(f"{name} of its config is {self.config.get(name)!r}; expected {value!r}")
        if self.state == COMPLETE and isinstance(self.result, dict):
            check(self.result, _NUMBERS)
            if self.result.get("data", study.data) != study.data:
                raise ValueError("it is of other data than its study")
        elif self.state == COMPLETE or self.result is not None:
            raise ValueError(f"state is {self.state} and result is {reprlib.repr(self.result)}")

    def ended_as(self, state: str, **fields: Any) -> "Record":
        """The record of the same trial at its end."""
        return dataclasses.replace(self, state=state, ended=now(), **fields)

    @property
    def settled(self) -> bool:
        """Whether another trial like this would find the same: it is complete, running, or failed of itself."""
        return not (self.state == FAILED and self.error == LOST)

    def value(self, name: str) -> float:
        """A number of a complete trial's result, its objective for example."""
        assert self.result is not None
        return float(self.result[name])


def now() -> str:
    """This moment as ISO 8601 with its time zone, to the second."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


@dataclass(frozen=True)
class Folder:
    """A study's folder on disk."""

    path: Path

    @property
    def definition(self) -> Path:
        """What the study is."""
        return self.path / "study.json"

    @property
    def trials(self) -> Path:
        """One record per trial."""
        return self.path / "trials"

    def exists(self) -> bool:
        """Whether a study has begun here."""
        return self.definition.exists()

    def read_study(self) -> Study:
        """The study of this folder.

        Raises:
            FolderError: there is none, or its file is damaged.
        """
        if not self.exists():
            raise FolderError(f"{self.path} holds no study; expected a folder with study.json")
        try:
            study = Study.from_dict(_read(self.definition))
            return dataclasses.replace(study, name=self.path.name)  # the folder may have been renamed
        except DAMAGE as error:
            raise FolderError(
                f"{self.definition} is damaged ({why_damaged(error)}); expected what a study wrote"
            ) from None

    def write_study(self, study: Study, this_run: dict[str, Any]) -> None:
        """Write down what the study is, and add a run to those that it had: command, commit, versions."""
        runs = _read(self.definition).get("runs", []) if self.exists() else []
        seeds = f"{SEED_STRIDE} * seed + replicate; a config's first trial is replicate 0"
        write(self.definition, {**study.as_dict(), "seeds": seeds, "runs": [*runs, this_run]})

    def read_records(self, study: Study) -> list[Record]:
        """All trials, by number.

        Raises:
            FolderError: a record is damaged, or not of this study.
        """
        if self.trials.exists() and not self.trials.is_dir():
            raise FolderError(f"{self.trials} is no folder; expected one with a record per trial")
        return [_record(path, study) for path in sorted(self.trials.glob("[0-9]*.json"), key=_number)]

    def write_record(self, record: Record) -> None:
        """Write a trial's record, whole."""
        write(self.trials / _file_name(record.trial), dataclasses.asdict(record))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder as its only driver.

        Raises:
            FolderError: another driver holds it.
        """
        self.trials.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderError(f"{self.path} is in use by another driver; wait for it or stop it") from None
            yield


def _number(path: Path) -> int:
    return int(path.stem) if path.stem.isdecimal() else 0


def _record(path: Path, study: Study) -> Record:
    try:
        record = Record.from_dict(_read(path))
        record.check(study)
        if path.name != (name := _file_name(record.trial)):
            raise ValueError(f"it is trial {record.trial}, whose file is {name}")
    except DAMAGE as error:
        raise FolderError(
            f"{path} is damaged ({why_damaged(error)}); move it away and another trial takes its place"
        ) from None
    return record


def _file_name(trial: int) -> str:
    return f"{trial:04d}.json"


def _read(path: Path) -> dict[str, Any]:
    entries = json.loads(path.read_text("utf-8"))
    if not isinstance(entries, dict):
        raise ValueError("not a JSON object")
    return entries


def write(path: Path, entries: dict[str, Any]) -> None:
    """Write a JSON file whole; a NaN is an error."""
    write_text(path, json.dumps(entries, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears whole and replaces what was there."""
    partial = path.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        with partial.open("w", encoding="utf-8", errors="backslashreplace") as file:  # a path may be no text
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
