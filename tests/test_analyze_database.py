"""The database as Optuna reads it."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from study.analyze.database import write_database
from study.folder import Folder
from study.space import parse
from tests.analyze_helpers import trained
from tests.study_helpers import SPACE, a_record, a_study, references

RECORDS = [
    a_record(3, 0.1 + 0.2, epochs=4, use_large_experts=True),
    a_record(4, state="failed", epochs=2),
    a_record(5, state="running"),
    a_record(7, -0.05, replicate=2),
]


def written(path, records=RECORDS, **study):
    """The Optuna study in a database that holds these records."""
    assert write_database(Folder(path), a_study(**study), records) == 0
    assert (path / "study.db").exists()
    return optuna.load_study(study_name="example", storage=f"sqlite:///{path / 'study.db'}")


def of_study(study):
    """Its trials without those that only take a number."""
    return [trial for trial in study.trials if "trial" in trial.user_attrs]


def numbers(study):
    """Of the trials that have ended; each has its number in Optuna too."""
    trials = of_study(study)
    assert [trial.number for trial in trials] == [trial.user_attrs["trial"] for trial in trials]
    return [trial.number for trial in trials if trial.state.is_finished()]


def test_every_ended_trial_has_its_state_value_parameters_and_times(tmp_path):
    trials = of_study(written(tmp_path))
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING, TrialState.COMPLETE,
    ]  # fmt: skip
    assert [trial.value for trial in trials] == [0.1 + 0.2, None, None, -0.05]
    assert trials[0].params == {"epochs": 4, "use_large_experts": True}
    assert trials[0].distributions == {name: CategoricalDistribution(grid) for name, grid in SPACE.grids.items()}
    assert trials[0].datetime_start.astimezone() == RECORDS[0].started
    assert trials[0].datetime_complete.astimezone() == RECORDS[0].ended


def test_scores_and_totals_or_the_error_are_user_attributes(tmp_path):
    complete, failed, *_ = of_study(written(tmp_path, reference=references(0.6)))
    found, common = RECORDS[0].done, {"phase": "search", "seed": 0}
    scores = {**found.score.as_json(), **found.totals.as_json()}
    assert complete.user_attrs == {"trial": 3, **common, **scores}
    assert failed.user_attrs == {"trial": 4, **common, "error": "out of luck"}


def test_the_study_is_maximised_and_its_best_trial_found(tmp_path):
    study = written(tmp_path)
    assert study.directions == [optuna.study.StudyDirection.MAXIMIZE]
    assert study.metric_names == ["gain"]
    assert study.user_attrs["space"] == "small"
    assert study.best_trial.number == 3


def test_trials_are_added_as_they_end_and_none_twice(tmp_path):
    assert numbers(written(tmp_path, RECORDS[:2])) == [3, 4]
    before = written(tmp_path, RECORDS[:2]).trials
    records = [*RECORDS[:2], a_record(5, 0.2, epochs=1), RECORDS[3]]  # the fifth has ended
    after = written(tmp_path, records)
    assert numbers(after) == [3, 4, 5, 7]
    assert after.trials[:5] == before


def test_a_trial_that_ends_after_a_later_one_runs_until_then_and_keeps_its_number(tmp_path):
    running, late = a_record(1, state="running"), trained(a_record(1, 0.04), 2)
    study = written(tmp_path, [running, a_record(2)])
    assert [trial.state for trial in of_study(study)] == [TrialState.RUNNING, TrialState.COMPLETE]
    first, second = of_study(written(tmp_path, [late, a_record(2)]))
    (tmp_path / "alone").mkdir()
    alone = of_study(written(tmp_path / "alone", [late]))
    assert (first.value, first.user_attrs) == (0.04, alone[0].user_attrs)
    assert first.intermediate_values == {1: 0.4123, 2: 0.4123}
    assert second.number == 2


def test_the_note_is_the_choice_unless_somebody_wrote_another(tmp_path):
    def note(text):
        write_database(Folder(tmp_path), a_study(), RECORDS, text)
        storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
        number = storage.get_study_id_from_name("example")
        found = storage.get_study_system_attrs(number)
        storage.set_study_system_attr(number, "dashboard:note_str:0", "mine" if text == "second" else text)
        return found["dashboard:note_str:0"]

    assert [note("first"), note("second"), note("third")] == ["first", "second", "mine"]


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
    assert study.trials[-1].number == 8
    assert study.best_value == 1.5
    assert len(written(tmp_path).trials) == 9  # what Optuna added stays


@pytest.mark.parametrize("records", [[], [a_record(1, state="failed")], [a_record(1, state="running")]])
def test_a_study_without_a_complete_trial_has_a_database_too(tmp_path, records):
    assert numbers(written(tmp_path, records)) == [record.trial for record in records if record.error]


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
