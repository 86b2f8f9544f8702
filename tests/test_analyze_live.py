"""The tables and the database of a study while it runs."""

import time
from functools import partialmethod

import optuna
import pandas as pd
import pytest

from study.analyze import live
from study.analyze.live import LiveTables
from study.analyze.tables import rebuild, write_all
from tests.analyze_helpers import trained, write
from tests.study_helpers import a_record, a_study, references

DONE = trained(a_record(2, 0.03, epochs=2), 2)
FAILED = a_record(1, state="failed")
RUNNING = [a_record(number, state="running", epochs=number) for number in (1, 2)]


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "example", [])


def read(folder):
    """The numbers of the trials in each file."""
    trials, epochs = (pd.read_csv(folder.path / f"{name}.csv") for name in ("trials", "epochs"))
    database = optuna.load_study(study_name="example", storage=f"sqlite:///{folder.path / 'study.db'}")
    ended = [each.number for each in database.trials if "trial" in each.user_attrs and each.state.is_finished()]
    return trials["trial"].tolist(), epochs["trial"].unique().tolist(), ended


def test_tables_and_database_have_every_trial_soon_after_its_end(folder):
    study = a_study()
    tables = LiveTables(folder, study, [a_record(3, state="running")])
    assert read(folder) == ([], [], [])
    for record in (*RUNNING, DONE):
        tables.add(study, record)
    deadline = time.monotonic() + 10
    while read(folder) != ([2], [2], [2]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for record in (FAILED, FAILED):
        tables.add(study, record)
    tables.close()
    assert read(folder) == ([2, 1], [2], [1, 2])
    resumed = LiveTables(folder, study, [FAILED, DONE])
    assert read(folder) == ([1, 2], [2], [1, 2])
    resumed.close()


def test_a_resumed_study_has_each_trial_in_its_database_under_its_number_as_it_ends(folder):
    study = a_study()
    write_all(folder, study, [DONE.replace(trial=1)])
    tables = LiveTables(folder, study, [DONE.replace(trial=1)])
    for number in (2, 3):
        tables.add(study, RUNNING[0].replace(trial=number))
        tables.add(study, FAILED.replace(trial=number))
        tables._write()
        assert read(folder)[2] == [*range(1, number + 1)]
    tables.close()


def test_a_database_that_lacks_too_many_trials_is_left_for_a_rebuild(folder, monkeypatch):
    monkeypatch.setattr(live.Database, "update", partialmethod(live.Database.update, most=1))
    tables = LiveTables(folder, a_study(), [FAILED, DONE])
    tables.add(a_study(), RUNNING[0].replace(trial=3))
    tables.add(a_study(), FAILED.replace(trial=3))
    tables.close()
    assert read(folder) == ([1, 2, 3], [2], [])
    database = optuna.load_study(study_name="example", storage=f"sqlite:///{folder.path / 'study.db'}")
    assert database.trials == []


def test_rows_get_the_references_that_came_after_them(folder):
    tables = LiveTables(folder, a_study(), [])
    for record in (*RUNNING, DONE):
        tables.add(a_study(), record)
    tables.add(a_study(reference=references(0.55)), FAILED)
    tables.close()
    trials = pd.read_csv(folder.path / "trials.csv")
    assert trials["trial"].tolist() == [2, 1]
    assert trials["reference_accuracy"][0] == 0.55


def test_a_link_in_the_place_of_a_table_is_not_followed(folder, tmp_path, capsys):
    (tmp_path / "diary").write_text("mine")
    tables = LiveTables(folder, a_study(), [])
    (folder.path / "trials.csv").unlink()
    (folder.path / "trials.csv").symlink_to(tmp_path / "diary")
    for record in (*RUNNING, DONE):
        tables.add(a_study(), record)
    tables.close()
    assert (tmp_path / "diary").read_text() == "mine"
    assert "trials.csv" in capsys.readouterr().err


def test_appended_rows_are_those_that_the_end_writes(folder):
    study = a_study(reference=references(0.6))
    tables = LiveTables(folder, study, [])
    for record in (*RUNNING, FAILED, DONE):
        tables.add(study, record)
    tables.close()
    appended = [(folder.path / f"{name}.csv").read_text() for name in ("trials", "epochs")]
    write_all(folder, study, [FAILED, DONE])
    assert appended == [(folder.path / f"{name}.csv").read_text() for name in ("trials", "epochs")]


def test_a_file_that_cannot_be_written_costs_one_warning_and_nothing_else(folder, capsys):
    (folder.path / "study.db").mkdir()
    tables = LiveTables(folder, a_study(), [])
    for record in (*RUNNING, DONE, FAILED):
        tables.add(a_study(), record)
    tables.close()
    tables.close()
    assert capsys.readouterr().err.count("tries again") == 1
    assert pd.read_csv(folder.path / "trials.csv")["trial"].tolist() == [2, 1]


def test_reused_and_chosen_epochs_are_marked(folder):
    stage = DONE.done.stages["gate"].replace(epochs_reused=1, epochs_trained=1, best_epoch=2)
    record = DONE.replace(result=DONE.done.replace(stages={"gate": stage}))
    write_all(folder, a_study(), [record])
    rows = pd.read_csv(folder.path / "epochs.csv")
    assert rows["stage"].tolist() == ["gate", "gate"]
    assert rows["epoch"].tolist() == [1, 2]
    assert rows["reused"].tolist() == [True, False]
    assert rows["chosen"].tolist() == [False, True]
    assert rows["loss"].tolist() == [epoch.loss for epoch in stage.epochs]


def test_a_rebuild_makes_what_is_derived_again(tmp_path):
    folder = write(tmp_path / "example", [FAILED, DONE])
    (folder.path / "study.db").write_text("no database")
    rebuild(folder)
    assert read(folder) == ([1, 2], [2], [1, 2])
