"""study.db: a study's ended trials as an Optuna study in SQLite, for dashboards and for Optuna itself.

Optuna makes the file and the empty study. The rows of the trials are written in bulk into the tables of Optuna's own
models, since its storage looks up the trial anew for every value of every trial: 17 ms each.
"""

import json
import logging
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import TrialState

from study.folder import Folder
from study.study import COMPLETE, FAILED, Record, Study

Rows = Iterator[dict[str, Any]]

_STATES = {COMPLETE: TrialState.COMPLETE, FAILED: TrialState.FAIL}


def write_database(folder: Folder, study: Study, records: Sequence[Record], attributes: Sequence[str]) -> None:
    """Write study.db whole, in place of the one that was there.

    Args:
        folder: of the study.
        study: what was searched; the parameters are its grids, by their values.
        records: its trials; those that still run are left out.
        attributes: the fields of a result that become a trial's user attributes.

    Raises:
        OSError: it could not be written.
    """
    logging.getLogger("optuna").setLevel(logging.WARNING)
    partial = folder.path / f".partial-{uuid.uuid4().hex}"
    try:
        address = sqlalchemy.URL.create("sqlite", database=str(partial))  # a folder's name may hold ? or %
        storage = optuna.storages.RDBStorage(address.render_as_string())
        number = storage.create_new_study([StudyDirection.MAXIMIZE], study.name)
        ended = [record for record in records if record.state in _STATES]
        with storage.engine.begin() as connection:
            for model, rows in _tables(number, study, ended, attributes).items():
                if filled := list(rows):
                    connection.execute(model.__table__.insert(), filled)
        storage.remove_session()
        storage.engine.dispose()
        partial.replace(folder.path / "study.db")
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:  # a full disk, above all
        raise OSError(str(error)) from error
    finally:
        partial.unlink(missing_ok=True)


def _tables(number: int, study: Study, records: Sequence[Record], attributes: Sequence[str]) -> dict[Any, Rows]:
    """The rows of each table, the trials first; a trial's key is its place from 1."""
    return {
        models.TrialModel: _trials(number, records),
        models.TrialValueModel: _values(study.objective, records),
        models.TrialParamModel: _params(study, records),
        models.TrialUserAttributeModel: _attributes(records, attributes),
    }


def _trials(number: int, records: Sequence[Record]) -> Rows:
    for key, record in enumerate(records, 1):
        yield {
            "trial_id": key,
            "number": key - 1,
            "study_id": number,
            "state": _STATES[record.state],
            "datetime_start": _utc(record.started),
            "datetime_complete": _utc(record.ended),
        }


def _values(objective: str, records: Sequence[Record]) -> Rows:
    finite = models.TrialValueModel.TrialValueType.FINITE  # a record holds no other number
    for key, record in enumerate(records, 1):
        if record.state == COMPLETE:
            yield {"trial_id": key, "objective": 0, "value": record.objective(objective), "value_type": finite}


def _params(study: Study, records: Sequence[Record]) -> Rows:
    grids = {name: distribution_to_json(CategoricalDistribution(grid)) for name, grid in study.space.grids.items()}
    for key, record in enumerate(records, 1):
        for name, index in study.space.point(record.config).items():
            yield {"trial_id": key, "param_name": name, "param_value": index, "distribution_json": grids[name]}


def _attributes(records: Sequence[Record], names: Sequence[str]) -> Rows:
    for key, record in enumerate(records, 1):
        found: dict[str, Any] = {"trial": record.trial, "seed": record.config.seed, "error": record.error}
        if record.result:
            numbers = {**dict(record.result), **dict(record.result.score), **dict(record.result.totals)}
            found |= {name: numbers[name] for name in names if name in numbers}
        for name, value in found.items():
            yield {"trial_id": key, "key": name, "value_json": json.dumps(value)}


def _utc(moment: datetime | None) -> datetime | None:
    """A moment of a record as Optuna stores it: in UTC, without saying so."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment else None
