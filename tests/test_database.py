"""The database as Optuna reads it: its rows are not written by Optuna's own storage."""

import sqlite3
from contextlib import closing
from datetime import datetime

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from study.analyze.database import write_database
from study.analyze.tables import COLUMNS
from study.folder import Folder
from study.space import parse
from study.study import COMPLETE, FAILED
from tests.study_helpers import SPACE, a_record, a_study

RECORDS = [
    a_record(3, 0.1 + 0.2, epochs=4, use_large_experts=True),
    a_record(4, state="failed", epochs=2),
    a_record(5, state="running"),
    a_record(7, -0.05, replicate=2),
]


def written(path, records=RECORDS, **study):
    """The storage of a study's database."""
    write_database(Folder(path), a_study(**study), records, list(COLUMNS))
    assert [file.name for file in path.iterdir()] == ["study.db"]
    return f"sqlite:///{path / 'study.db'}"


def dumped(path):
    """All that a database holds, as SQL."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def as_optuna_makes_it(record, space=SPACE):
    """The trial of a record, by Optuna's own means."""
    grids = {name: CategoricalDistribution(grid) for name, grid in space.grids.items()}
    found = {name: value for name, value in (record.result or {}).items() if name in COLUMNS}
    trial = create_trial(
        state={COMPLETE: TrialState.COMPLETE, FAILED: TrialState.FAIL}[record.state],
        value=record.result["gain"] if record.result else None,
        params={name: record.config[name] for name in grids},
        distributions=grids,
        user_attrs={"trial": record.trial, "seed": record.config["seed"], "error": record.error, **found},
    )
    for name in ("started", "ended"):
        local = datetime.fromisoformat(getattr(record, name)).astimezone().replace(tzinfo=None)
        setattr(trial, {"started": "datetime_start", "ended": "datetime_complete"}[name], local)
    return trial


def test_every_ended_trial_is_read_back_as_optuna_would_have_made_it(tmp_path):
    study = optuna.load_study(study_name="example", storage=written(tmp_path))
    expected = [as_optuna_makes_it(record) for record in RECORDS if record.state != "running"]
    for number, trial in enumerate(expected):
        trial.number, trial._trial_id = number, number + 1  # as the storage counts them
    assert study.trials == expected
    assert [list(trial.params) for trial in study.trials] == [list(trial.params) for trial in expected]
    assert study.directions == [optuna.study.StudyDirection.MAXIMIZE]
    assert study.best_trial == expected[0]


def test_its_rows_are_those_that_optunas_own_storage_writes(tmp_path):
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'optunas.db'}")
    study = optuna.create_study(storage=storage, study_name="example", direction="maximize")
    study.add_trials([as_optuna_makes_it(record) for record in RECORDS if record.state != "running"])
    (tmp_path / "ours").mkdir()
    written(tmp_path / "ours")
    ours, optunas = (dumped(path) for path in (tmp_path / "ours" / "study.db", tmp_path / "optunas.db"))
    assert ours == optunas


def test_a_folder_may_have_any_name(tmp_path):
    for name in ("what?mode=ro", "a%20b", "c#d", "e:f@g", "ü & ;'"):
        (tmp_path / name).mkdir()
        written(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 5  # and nothing beside them


def test_optuna_goes_on_with_the_study(tmp_path):
    study = optuna.load_study(study_name="example", storage=written(tmp_path))
    grids = {name: CategoricalDistribution(grid) for name, grid in SPACE.grids.items()}
    study.tell(study.ask(grids), 1.5)
    assert study.trials[-1].number == 3
    assert study.best_value == 1.5


@pytest.mark.parametrize("records", [[], [a_record(1, state="failed")], [a_record(1, state="running")]])
def test_a_study_without_a_complete_trial_has_a_database_too(tmp_path, records):
    study = optuna.load_study(study_name="example", storage=written(tmp_path, records))
    assert [trial.state for trial in study.trials] == [TrialState.FAIL for record in records if record.error]


def test_a_study_that_searches_nothing_has_trials_without_parameters(tmp_path):
    fixed = parse("one", {"epochs": 1, "test_examples": 1000})
    study = optuna.load_study(study_name="example", storage=written(tmp_path, [a_record(1)], space=fixed))
    assert (study.best_value, study.best_params) == (0.01, {})


def test_a_database_that_cannot_be_written_leaves_the_one_that_was_there(tmp_path, monkeypatch):
    written(tmp_path)
    before = (tmp_path / "study.db").read_bytes()
    monkeypatch.setattr("study.analyze.database._params", lambda *_: iter([{"trial_id": 1, "param_id": 1}] * 2))
    with pytest.raises(OSError, match="UNIQUE constraint failed"):
        written(tmp_path)
    assert (tmp_path / "study.db").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["study.db"]
