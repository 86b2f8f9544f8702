"""A study's folder: what it is, one JSON record per trial, and the lock of the driver that writes them.

    results/<name>/study.json         what is searched and how, fixed from the first trial on
                   trials/0001.json   one record per trial, replaced whole when the trial ends
                   .lock              held by the driver, released by the system when the driver dies

Everything else in the folder is derived from these. Only the driver writes here.
"""

import itertools
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from moe.schema import Model, decode
from study.study import SCHEMA, Record, Run, Study, StudyFile

Value = TypeVar("Value", bound=Model)


class FolderError(Exception):
    """A study folder that cannot be used; the sentence says why and what to do."""


@dataclass(frozen=True)
class Folder:
    """A study's folder on disk."""

    path: Path

    @property
    def definition(self) -> Path:
        """The file that says what the study is."""
        return self.path / "study.json"

    @property
    def trials(self) -> Path:
        """The folder with one record per trial."""
        return self.path / "trials"

    def exists(self) -> bool:
        """Whether a study has begun here."""
        return self.definition.exists()

    def read_study(self) -> Study:
        """The study of this folder.

        Raises:
            FolderError: there is none, or its file is damaged.
        """
        return self._definition().study.replace(name=self.path.name)  # the folder may have been renamed

    def read_runs(self) -> tuple[Run, ...]:
        """The starts of the driver, the first one first; raises as `read_study`."""
        return self._definition().runs

    def _definition(self) -> StudyFile:
        if not self.exists():
            raise FolderError(f"{self.path} holds no study; expected a folder with study.json")
        return _read(StudyFile, self.definition, "expected what a study wrote")

    def write_study(self, study: Study, this_run: Run) -> None:
        """Write what the study is, and add a run to those that it had."""
        runs = self.read_runs() if self.exists() else ()
        write_json(self.definition, StudyFile(study=study, runs=(*runs, this_run)).as_json())

    def read_records(self, study: Study) -> list[Record]:
        """All trials, by number.

        Raises:
            FolderError: a record is damaged, or not of this study.
        """
        if self.trials.exists() and not self.trials.is_dir():
            raise FolderError(f"{self.trials} is no folder; expected one with a record per trial")
        paths = sorted(self.trials.glob("[0-9]*.json"), key=lambda path: (len(path.name), path.name))
        return [_read_record(path, study) for path in paths]

    def write_record(self, record: Record) -> None:
        """Write a trial's record, whole."""
        write_json(self.trials / _file_name(record.trial), record.as_json())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder as its only driver.

        Raises:
            FolderError: another driver holds it.
        """
        self.trials.mkdir(parents=True, exist_ok=True)
        try:
            held = FileLock(self.path / ".lock", timeout=0).acquire()
        except Timeout:
            raise FolderError(f"{self.path} is in use by another driver; wait for it or stop it") from None
        with held:
            yield


def study_folders(results: Path) -> list[Path]:
    """The study folders in a results folder, the newest last."""
    found = [path.parent for path in results.glob("*/study.json")]
    return sorted(found, key=lambda path: (path / "study.json").stat().st_mtime)


def free_name(results: Path, stem: str) -> str:
    """The first of stem-1, stem-2, ... that no folder in `results` has, in characters that a name may have."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:60]
    names = (f"{plain}-{number}" for number in itertools.count(1))
    return next(name for name in names if not (results / name).exists())


def named(folder: Path) -> Path:
    """The folder by a path that ends in its name, as `.` does not."""
    return folder if folder.name not in ("", "..") else Path(os.path.abspath(folder))


def _file_name(trial: int) -> str:
    return f"{trial:04d}.json"


def _read_record(path: Path, study: Study) -> Record:
    def check(record: Record) -> None:
        record.check(study)
        if path.name != (name := _file_name(record.trial)):
            raise ValueError(f"it is trial {record.trial}, whose file is {name}")

    return _read(Record, path, "move it away and another trial takes its place", check)


def _read(model: type[Value], path: Path, advice: str, check: Callable[[Value], None] = lambda value: None) -> Value:
    content = b""
    try:
        content = path.read_bytes()
        value = decode(model, content)
        check(value)
        return value
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
    except ValueError as error:
        reason = str(error)
    if content.lstrip().startswith(b"{") and "no JSON" not in reason and b'"schema_version"' not in content:
        raise FolderError(f"{path} has no schema_version; expected {SCHEMA}, as this version writes it")
    raise FolderError(f"{path} is damaged ({reason}); {advice}")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole; a NaN is an error."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


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
