"""A study as a new user runs it: what is printed, what its folder holds, its resumption."""

import json

import pandas as pd
import pytest

import study.driver
from study.files import seal
from tests.run.helpers import Finished
from tests.run_helpers import call, furnished, records


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """As a new user has it: no data, Ray's authentication is on, and here there is no home to write a token to."""
    home = furnished(tmp_path_factory.mktemp("finished"))
    return Finished(home, *call(home, "--space", "four.yaml", "--trials", "3", RAY_AUTH_MODE=None, HOME="/dev/null"))


def test_a_study_without_data_or_network_ends_with_0(finished):
    assert finished.code == 0, finished.printed


def test_the_first_line_is_the_data_and_why_these(finished):
    first = next(line for line in finished.printed.splitlines() if not line.startswith("preparing"))  # on stderr
    assert first == f"Data: {finished.about['source']}"
    assert "shapes" in first
    assert "CIFAR-10" in first
    assert first in (finished.folder / "summary.md").read_text()


def test_progress_is_printed_without_the_tables_of_ray(finished):
    assert "| phase search: 3 of 3 trials done, best gain" in finished.printed
    assert "Trial status" not in finished.printed


def test_study_json_holds_what_was_searched_and_the_command(finished):
    assert finished.about["dataset"] == "shapes"
    assert finished.about["space"]["grids"]["epochs"] == [1, 2]
    runs = json.loads((finished.folder / "study.json").read_text())["runs"]
    assert [run["command"] for run in runs] == ["python -m study.run --space four.yaml --trials 3 --refine 0"]


def test_the_table_has_a_row_for_each_trial_with_its_gain(finished):
    table = pd.read_csv(finished.folder / "trials.csv")
    assert table["state"].tolist() == ["complete"] * 3
    assert (table["gain"] - (table["mixture_accuracy"] - table["baseline_accuracy"])).abs().max() < 1e-9


def test_the_trials_are_distinct_points_with_the_first_seed_and_the_notebooks_default_first(finished):
    table = pd.read_csv(finished.folder / "trials.csv")
    assert (table.loc[0, "epochs"], table.loc[0, "train_examples"]) == (1, 60)  # nearest to the notebook's default
    assert table["seed"].tolist() == [0] * 3
    assert len(table.drop_duplicates(["epochs", "train_examples"])) == 3


def test_the_folder_holds_records_and_what_is_derived_from_them_and_nothing_of_tune(finished):
    assert {path.name for path in finished.folder.iterdir()} == {
        "study.json", "trials", "trials.csv", "epochs.csv", "best.json", "summary.md", "study.db",
    }  # fmt: skip


def test_a_resume_of_a_finished_study_shows_its_summary_and_runs_nothing(finished, command):
    code, printed = command(finished.home, "--resume")
    assert code == 0, printed
    assert "trial 1 started" not in printed
    assert (finished.folder / "summary.md").read_text() in printed


def test_a_resume_with_more_trials_adds_them_to_those_there_were(finished, tmp_path, monkeypatch, command):
    before = records(finished.home, "shapes-four-1")

    def search(searcher, *_):
        searcher.ledger.start(searcher.ledger.study.space.default)

    monkeypatch.setattr(study.driver, "search", search)
    code, printed = command(finished.copy(tmp_path).home, "--resume", "--trials", "4", "--no-store")
    assert code == 75, printed
    after = records(tmp_path, "shapes-four-1")
    assert after[:3] == before
    assert [record["state"] for record in after[3:]] == ["running"]


@pytest.mark.parametrize(
    ("arguments", "given", "had"),
    [
        (("--space", "one.yaml"), "--space is epochs 1", "epochs [1, 2]"),
        (("--protocol", "notebook"), "--protocol is notebook", "holdout"),
        (("--seed", "1"), "--seed is 1", "has 0"),
        (("--data", "elsewhere"), "--data is elsewhere", "shapes"),
        (("--objective", "mixture_accuracy"), "--objective is mixture_accuracy", "gain"),
    ],
)
def test_a_resume_that_would_change_the_study_is_refused_with_the_difference(finished, command, arguments, given, had):
    code, printed = command(finished.home, "--resume", *arguments)
    assert code == 2
    for part in (given, "shapes-four-1", had):
        assert part in printed
    assert len(printed.splitlines()) == 1


def test_a_new_study_under_a_taken_name_is_refused(finished, command):
    code, printed = command(finished.home, "--name", "shapes-four-1")
    assert code == 2
    assert "--name is shapes-four-1" in printed
    assert "--resume" in printed


def test_a_resume_on_other_data_is_refused_and_leaves_the_records(finished, tmp_path, command):
    copy, data = finished.copy(tmp_path), finished.about["data"]
    for path in (copy.folder / "study.json", *(copy.folder / "trials").iterdir()):
        entries = json.loads(path.read_text().replace(data, "0" * 64))
        path.write_text(seal({name: value for name, value in entries.items() if name != "sha256"}))
    before = records(tmp_path, "shapes-four-1")
    code, printed = command(tmp_path, "--resume", "--trials", "5")
    assert code == 2
    for part in ("--data is", data[:12], "0" * 12):
        assert part in printed
    assert records(tmp_path, "shapes-four-1") == before
