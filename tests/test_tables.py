import json

import optuna
import pandas as pd
import pytest

from study.analyze.tables import COLUMNS, frame, summary, write_all
from study.folder import Folder
from tests.study_helpers import a_record, a_study

RECORDS = [
    a_record(1, 0.01),
    a_record(2, 0.1 + 0.2, epochs=2),
    a_record(3, state="failed", epochs=4),
    a_record(4, state="running", epochs=4),
]


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path / "example")
    folder.trials.mkdir(parents=True)
    return folder


def test_the_table_loads_with_one_line_of_pandas_with_the_right_types(folder):
    write_all(folder, a_study(), RECORDS)
    table = pd.read_csv(folder.path / "trials.csv")
    assert list(table.columns) == [*COLUMNS, "gain_vs_best_baseline"]
    assert table["gain"].tolist()[:2] == [0.01, 0.1 + 0.2]  # unrounded
    assert table["gain"].isna().tolist() == [False, False, True, True]
    assert table["use_large_experts"].dtype == bool
    assert table["epochs"].dtype.kind == "i"
    assert table["error"].tolist()[2] == "out of luck"
    assert table["state"].tolist() == ["complete", "complete", "failed", "running"]
    assert table["dataset"].unique().tolist() == ["shapes"]


def test_a_gain_over_a_crippled_baseline_does_not_count_against_the_best_one():
    study = a_study()
    records = [a_record(1, 0.01), a_record(2, 0.05, epochs=2)]
    records[1].result.update(baseline_accuracy=0.3, mixture_accuracy=0.35)
    found = frame(study, records)["gain_vs_best_baseline"].tolist()
    assert found == pytest.approx([0.01, -0.15])


def test_no_trial_at_all_makes_an_empty_table_and_no_choice(folder):
    assert write_all(folder, a_study(), []) is None
    assert len(pd.read_csv(folder.path / "trials.csv")) == 0
    assert not (folder.path / "best.json").exists()
    assert "no trials" in (folder.path / "summary.md").read_text()


def test_the_summary_says_what_the_store_saved(folder):
    records = [a_record(1, 0.01), a_record(2, 0.02, epochs=2)]
    records[1].result.update(epochs_trained=1, epochs_reused=9, seconds=30.0, seconds_reused=600.0)
    page = summary(a_study(), records, None)
    assert "15 epochs of stages were needed: 6 were trained, 9 (60%) came from the store." in page
    assert "The trials took 90 s; training what was reused had taken 10 min." in page
    assert "came from the store" not in summary(a_study(), [a_record(1, state="failed")], None)


def test_only_failures_make_a_summary_with_their_reasons(folder):
    write_all(folder, a_study(), [a_record(1, state="failed")])
    assert "trial 1: out of luck" in (folder.path / "summary.md").read_text()


def test_the_choice_is_written_with_its_reason_estimate_and_interval(folder):
    write_all(folder, a_study(), RECORDS)
    best = json.loads((folder.path / "best.json").read_text())
    assert best["config"]["epochs"] == 2
    assert best["low"] <= best["estimate"] <= best["high"]
    assert best["why"].startswith("highest gain")
    assert (best["study"], best["dataset"], best["trials"]) == ("example", "shapes", [2])


def test_the_summary_says_where_the_data_came_from_and_how_far_the_study_is():
    text = summary(a_study(source="shapes, drawn by code: no network"), RECORDS, None)
    assert "shapes, drawn by code: no network" in text
    assert "2 complete, 1 failed, 1 running, of 5 complete trials wanted" in text


def test_the_notebook_protocol_is_called_optimistic():
    assert "optimistic" in summary(a_study(protocol="notebook"), [], None)


def test_the_database_is_written_with_what_the_table_has(folder):
    write_all(folder, a_study(), RECORDS)
    study = optuna.load_study(study_name="example", storage=f"sqlite:///{folder.path / 'study.db'}")
    assert study.best_trial.params == {"epochs": 2, "use_large_experts": False}
    assert study.best_trial.user_attrs["baseline_accuracy"] == 0.5
    assert "scored_examples" not in study.best_trial.user_attrs


def test_everything_derived_can_be_made_again(folder):
    write_all(folder, a_study(), RECORDS)
    before = {name: (folder.path / name).read_text() for name in ("trials.csv", "best.json", "summary.md")}
    write_all(folder, a_study(), RECORDS)
    assert before == {name: (folder.path / name).read_text() for name in before}
    assert not list(folder.path.glob(".partial*"))
