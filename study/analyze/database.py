"""study.db: a study's trials as an Optuna study in SQLite, for dashboards and for Optuna itself.

It grows as trials end: Optuna takes 10 to 15 ms to add one. Trials have their numbers there too: a failed trial
stands at 0, where Optuna begins to count, and one that ended after a later trial is there as running before.
"""

import errno
import logging
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from moe.files import irregular
from study.folder import Folder
from study.study import COMPLETE, FAILED, RUNNING, Record, Study

ENDED = "trials ended"  # the study's attribute with their number: to read the trials takes 1 ms each
NOTE = "choice"  # the study's attribute with what its note says
MOST_AT_ONCE = 2000  # trials that are added unasked, in 20 to 30 s
BUSY_S = 5.0  # to wait for a dashboard that reads
STATES = {COMPLETE: TrialState.COMPLETE, FAILED: TrialState.FAIL, RUNNING: TrialState.RUNNING}
NO_TRIAL = {"note": "no trial of the study has this number; they begin at 1"}


class Trials:
    """The trials of an Optuna study, to which a study's are added with their numbers."""

    def __init__(self, opened: optuna.Study, storage: optuna.storages.BaseStorage) -> None:
        found = opened.get_trials(deepcopy=False)
        self._opened, self._storage, self._size = opened, storage, len(found)
        ours = {trial.user_attrs["trial"]: trial for trial in found if "trial" in trial.user_attrs}
        self._running = {number: trial.number for number, trial in ours.items() if not trial.state.is_finished()}
        self._ended = set(ours) - set(self._running)

    @property
    def ended(self) -> int:
        """How many trials of the study have ended there."""
        return len(self._ended)

    def lacking(self, records: Sequence[Record]) -> list[Record]:
        """Those that have ended and are not there yet, by number."""
        found = [each for each in records if each.state in (COMPLETE, FAILED) and each.trial not in self._ended]
        return sorted(found, key=lambda record: record.trial)

    def add(self, study: Study, records: Sequence[Record]) -> None:
        """Add the trials that have ended; those that run only where a later one has ended."""
        by_number = {record.trial: record for record in records}
        for record in self.lacking(records):
            if record.trial in self._running:
                self._end(study, record, self._running.pop(record.trial))
            else:
                while self._size < record.trial:
                    if before := by_number.get(self._size):
                        self._append(_frozen(study, before))
                    else:
                        self._append(_no_trial(_local(record.started)))
                self._append(_frozen(study, record))
            self._ended.add(record.trial)

    def _append(self, trial: FrozenTrial) -> None:
        if not trial.state.is_finished():
            self._running[self._size] = self._size
        self._opened.add_trial(trial)
        self._size += 1

    def _end(self, study: Study, record: Record, number: int) -> None:
        place = self._storage.get_study_id_from_name(self._opened.study_name)
        trial = self._storage.get_trial_id_from_study_id_trial_number(place, number)
        frozen = _frozen(study, record)
        for name, value in frozen.user_attrs.items():
            self._storage.set_trial_user_attr(trial, name, value)
        for step, value in frozen.intermediate_values.items():
            self._storage.set_trial_intermediate_value(trial, step, value)
        self._storage.set_trial_state_values(trial, frozen.state, frozen.values)


class Database:
    """study.db, open; it is made anew where it is no database of this study.

    Raises:
        OSError: it cannot be read or written.
    """

    def __init__(self, folder: Folder, study: Study) -> None:
        logging.getLogger("optuna").setLevel(logging.WARNING)
        self._path = folder.path / "study.db"
        self._trials: Trials | None = None  # read when needed
        self._updated = False  # whether `update` was called
        with self._errors():
            for beside in ("", "-journal", "-wal", "-shm"):  # SQLite follows links
                if (file := self._path.with_name(self._path.name + beside)).is_symlink() or irregular(file):
                    file.unlink()
            if self._path.exists() and not _holds(self._path, study.name):
                self._path.unlink()
            self._storage = _storage(self._path)
            self._study = _create(study, self._storage)

    def close(self) -> None:
        """Release the file."""
        _close(self._storage)

    def update(self, study: Study, records: Sequence[Record], note: str = "", most: int = MOST_AT_ONCE) -> int:
        """Add what it lacks of these trials; 0, or how many it lacks where these are too many.

        Args:
            records: the trials that have ended since the last call, in the first one all, and those that run.
            note: about the study, for the dashboard.
            most: trials to add; where more are missing, none is added.

        Raises:
            OSError: it cannot be written.
        """
        with self._errors():
            had = self._study.user_attrs
            for name, value in _attributes_of(study).items():
                if had.get(name) != value:
                    self._study.set_user_attr(name, value)
            if note:
                self._write_note(note, had.get(NOTE, ""))
            first, self._updated = not self._updated, True
            if first and had.get(ENDED, 0) == sum(record.state in (COMPLETE, FAILED) for record in records):
                return 0
            self._trials = self._trials or Trials(self._study, self._storage)
            if len(lacking := self._trials.lacking(records)) > most:
                return len(lacking)
            self._trials.add(study, records)
            self._study.set_user_attr(ENDED, self._trials.ended)
        return 0

    def _write_note(self, note: str, before: str) -> None:
        """The note as optuna-dashboard has it (its format since 0.7), unless somebody wrote another one there."""
        number = self._storage.get_study_id_from_name(self._study.study_name)
        found = self._storage.get_study_system_attrs(number)
        if note != before and found.get("dashboard:note_str:0", "") in ("", before):
            self._storage.set_study_system_attr(number, "dashboard:note_str:0", note)
            self._storage.set_study_system_attr(number, "dashboard:note_ver", found.get("dashboard:note_ver", 0) + 1)
            self._study.set_user_attr(NOTE, note)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Optuna lets errors of SQLAlchemy and sqlite3 through
            reason = str(getattr(error, "orig", error))  # SQLAlchemy's own text is a page
            raise OSError(errno.EIO, reason, str(self._path)) from error


def write_database(
    folder: Folder, study: Study, records: Sequence[Record], note: str = "", most: int = MOST_AT_ONCE
) -> int:
    """Add to study.db the ended trials that it lacks; raises, and returns, as `Database.update`."""
    with closing(Database(folder, study)) as database:
        return database.update(study, records, note, most)


def in_memory(study: Study, records: Sequence[Record]) -> optuna.Study:
    """The trials as an Optuna study that no file holds."""
    storage = optuna.storages.InMemoryStorage()
    opened = _create(study, storage)
    Trials(opened, storage).add(study, records)
    return opened


def _create(study: Study, storage: optuna.storages.BaseStorage) -> optuna.Study:
    opened = optuna.create_study(storage=storage, study_name=study.name, direction="maximize", load_if_exists=True)
    with warnings.catch_warnings():  # of names of metrics, which may change
        warnings.simplefilter("ignore", ExperimentalWarning)
        opened.set_metric_names([study.objective])
    return opened


def _holds(path: Path, name: str) -> bool:
    """Whether a file is a database with the study of that name, and no other."""
    try:
        storage = _storage(path)
        try:
            return optuna.get_all_study_names(storage) == [name]
        finally:
            _close(storage)
    except Exception:  # whatever SQLAlchemy and sqlite3 find wrong with it
        return False


def _storage(path: Path) -> optuna.storages.RDBStorage:
    """Optuna's storage in a file; its address would not take any path, as one with a question mark."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
        connection.execute("PRAGMA synchronous=OFF")  # what a power failure damages can be made again
        return connection

    return optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect})


def _close(storage: optuna.storages.RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _attributes_of(study: Study) -> dict[str, Any]:
    """The study's attributes."""
    names = ("objective", "sampler", "seed", "protocol", "precision", "dataset", "trials")
    best = {str(each.config.train_examples): study.reference_accuracy(each.config) for each in study.reference}
    return {name: getattr(study, name) for name in names} | {"space": study.space.name, "reference_accuracy": best}


def _no_trial(moment: datetime | None) -> FrozenTrial:
    """What only takes a number."""
    trial = optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=NO_TRIAL)
    trial.datetime_start = trial.datetime_complete = moment
    return trial


def _frozen(study: Study, record: Record) -> FrozenTrial:
    """A trial as Optuna has it."""
    grids: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(grid) for name, grid in study.space.grids.items()
    }
    return FrozenTrial(
        number=0,  # Optuna gives it the next one
        trial_id=0,
        state=STATES[record.state],
        value=study.value(record, study.objective) if record.state == COMPLETE else None,
        datetime_start=_local(record.started),
        datetime_complete=_local(record.ended),
        params={name: getattr(record.config, name) for name in grids},
        distributions=grids,
        user_attrs=_attributes(study, record),
        system_attrs={},
        intermediate_values=_curve(record),
    )


def _attributes(study: Study, record: Record) -> dict[str, Any]:
    found: dict[str, Any] = {"trial": record.trial, "phase": record.phase, "seed": record.config.seed}
    if record.result:
        return {**found, **record.result.score.as_json(), **record.result.totals.as_json()}
    return {**found, "error": record.error} if record.error else found


def _curve(record: Record) -> dict[int, float]:
    """The mixture's validation accuracy by epoch."""
    stage = record.result.stages.get("mixture") if record.result else None
    return {number: epoch.validation_accuracy for number, epoch in enumerate(stage.epochs, 1)} if stage else {}


def _local(moment: datetime | None) -> datetime | None:
    """A moment of a record as Optuna has it: local, without saying so."""
    return moment.astimezone().replace(tzinfo=None) if moment else None
