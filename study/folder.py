"""A study's folder: what it is, one JSON record per trial, and the lock of the driver that writes them.

    results/<name>/study.json         what is searched and how, fixed from the first trial on
                   trials/0001.json   one record per trial, replaced whole when the trial ends
                   .lock              while a driver runs: see `study.lock`

Both carry checksums. Everything else in the folder is derived from these. Only the driver writes here, and nothing
outside: links are replaced or refused, never followed.
"""

import gc
import hashlib
import itertools
import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from moe.files import NotRegularError, read_regular
from moe.schema import Model
from study.files import ChangedError, create_text, decode_edited, seal, unseal, write_text
from study.lock import FolderError, Lock
from study.study import SCHEMA, Record, Run, Study, StudyFile

__all__ = ["Folder", "FolderError", "free_name", "named", "study_folders"]

Value = TypeVar("Value", bound=Model)

_RECORD = re.compile(r"[0-9].*\.json")


@dataclass
class Folder:
    """A study's folder on disk, as one process uses it."""

    path: Path
    _lock: Lock | None = field(default=None, init=False, repr=False, compare=False)
    _known: dict[Path, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)  # hashes of records

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
        """The study of this folder; raises a FolderError if there is none, or its file is damaged."""
        return self._definition().study.replace(name=self.path.name)  # the folder may have been renamed

    def read_runs(self) -> tuple[Run, ...]:
        """The starts of the driver, the first one first; raises as `read_study`."""
        return self._definition().runs

    def _check_exists(self) -> None:
        if not self.exists():
            raise FolderError(f"{self.path} holds no study; expected a folder with study.json")

    def _definition(self) -> StudyFile:
        self._check_exists()
        return _read(StudyFile, self.definition)[0]

    def write_study(self, study: Study, *this_run: Run) -> None:
        """Write what the study is, and add a run to those that it had."""
        runs = self.read_runs() if self.exists() else ()
        self._check_lock()
        write_text(self.definition, seal(StudyFile(study=study, runs=(*runs, *this_run)).as_json()))

    def read_records(self, study: Study) -> list[Record]:
        """All trials, by number; raises a FolderError if a record is damaged, or not of this study."""
        records = []
        with uncollected():
            for path in self._paths():
                record, content, _ = _read_record(path, study)
                self._known[path] = _digest(content)
                records.append(record)
        return records

    def _paths(self) -> list[Path]:
        try:
            names = [name for name in os.listdir(self.trials) if _RECORD.fullmatch(name)]
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            raise FolderError(f"{self.trials} is no folder; expected one with a record per trial") from None
        except OSError as error:
            raise FolderError(f"{self.trials} cannot be read: {error.strerror}") from None
        return [self.trials / name for name in sorted(names, key=lambda name: (len(name), name))]

    def write_record(self, record: Record) -> None:
        """Write a trial's record, whole: a new one, or over one that this object read or wrote.

        Raises:
            FolderError: as `write_once`.
        """
        path, text = self.trials / file_name(record.trial), seal(record.as_json())
        known = self._known.get(path)
        replaces = None if known is None else lambda content: _digest(content) == known
        self.write_once("trials", path.name, text, replaces)
        self._known[path] = _digest(text.encode())

    def write_once(self, subfolder: str, name: str, text: str, replaces: Callable[[bytes], bool] | None = None) -> None:
        """Write a file of a subfolder, whole: a new one, or over one whose content `replaces` accepts.

        Raises:
            FolderError: another driver wrote it, or holds the folder now; or the subfolder is a link.
        """
        self._check_lock()
        path = self.subfolder(subfolder) / name  # it may have become a link since it was made
        if replaces and path.exists():
            if not replaces(read_regular(path)):
                raise FolderError(f"{path} was changed by another meanwhile, and stays as it is")
            write_text(path, text)
        elif not create_text(path, text):
            raise FolderError(f"{path} was written by another driver meanwhile, and stays as it is")

    def accept_edits(self) -> list[Path]:
        """Give study.json and the records that were edited by hand their checksums; which these are.

        Raises:
            FolderError: there is no study, one of them is damaged or not of this study, or the folder is in use.
        """
        self._check_exists()  # else the lock would make the folder
        with self.locked():
            about = _read(StudyFile, self.definition, edited=True)
            study = about[0].study.replace(name=self.path.name)
            files: dict[Path, tuple[Model, bytes, bool]] = {self.definition: about}
            files |= {path: _read_record(path, study, edited=True) for path in self._paths()}
            edited = {path: seal(value.as_json()) for path, (value, _, changed) in files.items() if changed}
            for path, text in edited.items():
                self._check_lock()
                write_text(path, text)
        return list(edited)

    def subfolder(self, name: str) -> Path:
        """A folder in this one, made where it is missing.

        Raises:
            FolderError: something else stands in its place, such as a link, which leads outside.
        """
        path = self.path / name
        if path.is_symlink():
            raise FolderError(f"{path} is a link; expected a folder, or nothing: move the link away")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise FolderError(f"{path} is no folder; expected one, or nothing: move it away") from None
        return path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder as its only driver; raises a FolderError if another one holds it."""
        self.subfolder("trials")
        self._lock = Lock(self.path)
        try:
            yield
        finally:
            self._lock.release()
            self._lock = None

    def _check_lock(self) -> None:
        if self._lock:
            self._lock.check()


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the garbage collector, which visits all objects time and again while many are made that stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


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


def file_name(trial: int) -> str:
    """Of a trial's record."""
    return f"{trial:04d}.json"


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _read_record(path: Path, study: Study, edited: bool = False) -> tuple[Record, bytes, bool]:
    def check(record: Record) -> None:
        record.check(study)
        if path.name != (name := file_name(record.trial)):
            raise ValueError(f"it is trial {record.trial}, whose file is {name}")

    return _read(Record, path, edited, check, "move it away and another trial takes its place")


def _read(
    model: type[Value],
    path: Path,
    edited: bool = False,
    check: Callable[[Value], None] = lambda value: None,
    advice: str = "expected what a study wrote",
) -> tuple[Value, bytes, bool]:
    """The value in a file of a study, the file's content, and whether it was changed, which only `edited` allows."""
    content = b""
    try:
        content = read_regular(path)
        try:
            value, changed = unseal(model, content), False
        except ChangedError:
            value, changed = decode_edited(model, content), True
        check(value)
    except NotRegularError as error:
        reason = error.strerror or ""
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        reason = str(error)
    else:
        if changed and not edited:
            raise _changed(path)
        return value, content, changed
    if content.lstrip().startswith(b"{") and "no JSON" not in reason and b'"schema_version"' not in content:
        raise FolderError(f"{path} has no schema_version; expected {SCHEMA}, as this version writes it")
    raise FolderError(f"{path} is damaged ({reason}); {advice}")


def _changed(path: Path) -> FolderError:
    folder = path.parent if path.name == "study.json" else path.parent.parent
    return FolderError(
        f"{path} was changed since it was written: it does not match its checksum. Restore it from a copy; or, if "
        f"it was edited by hand, accept it with: python -m study.analyze --accept {shlex.quote(str(folder))}"
    )
