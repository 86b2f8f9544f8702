"""study.db: a study's ended trials as an Optuna study in SQLite, for dashboards and for Optuna itself.

Optuna takes 10 to 15 ms to add a trial, and adds none twice: so the file can grow as trials end.
"""

import errno
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from moe.files import irregular
from study.folder import Folder
from study.study import COMPLETE, FAILED, Record, Study

COUNT = "records"  # the study's attribute with the number of trials added: to read the trials takes 1 ms each
MOST_AT_ONCE = 2000  # trials that are added unasked, in 20 to 30 s


def write_database(folder: Folder, study: Study, records: Sequence[Record], most: int = MOST_AT_ONCE) -> int:
    """Add to study.db the ended trials that it lacks; 0, or how many it lacks where these are too many.

    The parameters are the study's grids, by their values; scores and totals are user attributes. A file that is no
    database of this study is made anew.

    Args:
        most: trials to add; where more are missing, none is added.

    Raises:
        OSError: it could not be written.
    """
    logging.getLogger("optuna").setLevel(logging.WARNING)
    ended = [record for record in records if record.state in (COMPLETE, FAILED)]
    path = folder.path / "study.db"
    try:
        for beside in ("", "-journal", "-wal", "-shm"):  # SQLite follows links
            if (file := path.with_name(path.name + beside)).is_symlink() or irregular(file):
                file.unlink()
        if path.exists() and not _holds(path, study.name):
            path.unlink()
        with _storage(path) as storage:
            opened = optuna.create_study(
                storage=storage, study_name=study.name, direction="maximize", load_if_exists=True
            )
            missing: int = len(ended) - opened.user_attrs.get(COUNT, 0)
            if not 0 < missing <= most:
                return max(0, missing)
            known = {trial.user_attrs.get("trial") for trial in opened.get_trials(deepcopy=False)}
            opened.add_trials(_trials(study, [record for record in ended if record.trial not in known]))
            opened.set_user_attr(COUNT, len(ended))
    except Exception as error:  # Optuna lets errors of SQLAlchemy and sqlite3 through
        raise OSError(errno.EIO, str(error), str(path)) from error
    return 0


def _holds(path: Path, name: str) -> bool:
    """Whether a file is a database with the study of that name, and no other."""
    try:
        with _storage(path) as storage:
            return optuna.get_all_study_names(storage) == [name]
    except Exception:  # whatever SQLAlchemy and sqlite3 find wrong with it
        return False


@contextmanager
def _storage(path: Path) -> Iterator[optuna.storages.RDBStorage]:
    """Optuna's storage in a file; its address would not take any path, as one with a question mark."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.execute("PRAGMA synchronous=OFF")  # what a power failure damages can be made again
        return connection

    storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect})
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _trials(study: Study, records: Sequence[Record]) -> Iterator[FrozenTrial]:
    grids: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(grid) for name, grid in study.space.grids.items()
    }
    for record in records:
        yield FrozenTrial(
            number=0,  # Optuna gives it the next one
            trial_id=0,
            state=TrialState.COMPLETE if record.state == COMPLETE else TrialState.FAIL,
            value=study.value(record, study.objective) if record.state == COMPLETE else None,
            datetime_start=_local(record.started),
            datetime_complete=_local(record.ended),
            params={name: getattr(record.config, name) for name in grids},
            distributions=grids,
            user_attrs=_attributes(record),
            system_attrs={},
            intermediate_values={},
        )


def _attributes(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = {"trial": record.trial, "seed": record.config.seed}
    if record.result:
        return {**found, **record.result.score.as_json(), **record.result.totals.as_json()}
    return {**found, "error": record.error}


def _local(moment: datetime | None) -> datetime | None:
    """A moment of a record as Optuna has it: local, without saying so."""
    return moment.astimezone().replace(tzinfo=None) if moment else None
