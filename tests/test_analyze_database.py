"""The database as Optuna reads it."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from study.analyze.database import write_database
from study.folder import Folder
from study.space import parse
from tests.study_helpers import SPACE, a_record, a_study

RECORDS = [
    a_record(3, 0.1 + 0.2, epochs=4, use_large_experts=True),
    a_record(4, state="failed", epochs=2),
    a_record(5, state="running"),
    a_record(7, -0.05, replicate=2),
]


def written(path, records=RECORDS, **study):
    """The Optuna study in a database that holds these records."""
    assert write_database(Folder(path), a_study(**study), records) == 0
    assert [file.name for file in path.iterdir()] == ["study.db"]
    return optuna.load_study(study_name="example", storage=f"sqlite:///{path / 'study.db'}")


def numbers(study):
    return [trial.user_attrs["trial"] for trial in study.trials]


def test_every_ended_trial_has_its_state_value_parameters_and_times(tmp_path):
    trials = written(tmp_path).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert [trial.value for trial in trials] == [0.1 + 0.2, None, -0.05]
    assert trials[0].params == {"epochs": 4, "use_large_experts": True}
    assert trials[0].distributions == {name: CategoricalDistribution(grid) for name, grid in SPACE.grids.items()}
    assert trials[0].datetime_start.astimezone() == RECORDS[0].started
    assert trials[0].datetime_complete.astimezone() == RECORDS[0].ended


def test_scores_and_totals_or_the_error_are_user_attributes(tmp_path):
    complete, failed, _ = written(tmp_path).trials
    found = RECORDS[0].done
    assert complete.user_attrs == {"trial": 3, "seed": 0, **found.score.as_json(), **found.totals.as_json()}
    assert failed.user_attrs == {"trial": 4, "seed": 0, "error": "out of luck"}


def test_the_study_is_maximised_and_its_best_trial_found(tmp_path):
    study = written(tmp_path)
    assert study.directions == [optuna.study.StudyDirection.MAXIMIZE]
    assert study.best_trial.user_attrs["trial"] == 3


def test_trials_are_added_as_they_end_and_none_twice(tmp_path):
    assert numbers(written(tmp_path, RECORDS[:2])) == [3, 4]
    before = written(tmp_path, RECORDS[:2]).trials
    records = [*RECORDS[:2], a_record(5, 0.2, epochs=1), RECORDS[3]]  # the fifth has ended
    after = written(tmp_path, records)
    assert numbers(after) == [3, 4, 5, 7]
    assert after.trials[:2] == before


def test_more_trials_than_may_be_added_at_once_are_counted_and_none_is_added(tmp_path):
    assert write_database(Folder(tmp_path), a_study(), RECORDS, most=2) == 3
    assert written(tmp_path, []).trials == []


@pytest.mark.parametrize("content", [b"", b"no database at all", b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_database_is_made_anew(tmp_path, content):
    (tmp_path / "study.db").write_bytes(content)
    assert numbers(written(tmp_path)) == [3, 4, 7]


def test_a_study_in_a_renamed_folder_gets_a_database_with_its_new_name(tmp_path):
    write_database(Folder(tmp_path), a_study(name="before"), RECORDS)
    assert numbers(written(tmp_path)) == [3, 4, 7]
    assert optuna.get_all_study_names(f"sqlite:///{tmp_path / 'study.db'}") == ["example"]


def test_a_folder_may_have_any_name(tmp_path):
    for name in ("what?mode=ro", "a%20b", "c#d", "e:f@g", "ü & ;'"):
        (tmp_path / name).mkdir()
        write_database(Folder(tmp_path / name), a_study(), RECORDS)
        assert (tmp_path / name / "study.db").stat().st_size > 10_000
    assert len(list(tmp_path.iterdir())) == 5  # and nothing beside them


def test_optuna_goes_on_with_the_study(tmp_path):
    study = written(tmp_path)
    grids = {name: CategoricalDistribution(grid) for name, grid in SPACE.grids.items()}
    study.tell(study.ask(grids), 1.5)
    assert study.trials[-1].number == 3
    assert study.best_value == 1.5
    assert len(written(tmp_path).trials) == 4  # what Optuna added stays


@pytest.mark.parametrize("records", [[], [a_record(1, state="failed")], [a_record(1, state="running")]])
def test_a_study_without_a_complete_trial_has_a_database_too(tmp_path, records):
    assert [trial.state for trial in written(tmp_path, records).trials] == [
        TrialState.FAIL for record in records if record.error
    ]


def test_a_study_that_searches_nothing_has_trials_without_parameters(tmp_path):
    fixed = parse("one", {"epochs": 1, "test_examples": 1000})
    study = written(tmp_path, [a_record(1)], space=fixed)
    assert (study.best_value, study.best_params) == (0.01, {})


def test_a_database_that_cannot_be_written_is_an_error_with_its_path(tmp_path):
    (tmp_path / "study.db").mkdir()
    with pytest.raises(OSError, match=r"study\.db") as caught:
        write_database(Folder(tmp_path), a_study(), RECORDS)
    assert caught.value.filename == str(tmp_path / "study.db")


def test_an_interrupted_addition_is_continued_without_doubles(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "set_user_attr", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_database(Folder(tmp_path), a_study(), RECORDS[:2])
    assert numbers(written(tmp_path)) == [3, 4, 7]
