import json
import time

import pandas as pd
import pytest

from study.analyze.tables import frame, summary, write_all
from study.columns import COLUMNS
from study.folder import Folder
from study.select.choice import choose
from study.space import PRESETS
from tests.analyze_helpers import search, weak, write
from tests.study_helpers import a_record, a_study, references, referred

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
    assert list(table.columns) == list(COLUMNS)
    assert table["gain"].tolist()[:2] == [0.01, 0.1 + 0.2]  # unrounded
    assert table["gain"].isna().tolist() == [False, False, True, True]
    assert table["use_large_experts"].dtype == bool
    assert table["epochs"].dtype.kind == "i"
    assert table["error"].tolist()[2] == "out of luck"
    assert table["state"].tolist() == ["complete", "complete", "failed", "running"]
    assert table["dataset"].unique().tolist() == ["shapes"]


def test_a_fair_gain_is_over_the_reference_with_as_many_training_examples_less_the_margin():
    study = a_study(reference=references(0.5), margin=0.02)
    records = [weak(1, 0.1, baseline=0.3), weak(2, 0.03, baseline=0.49), weak(3, 0.1, baseline=0.3, epochs=2)]
    found = frame(study, records)
    assert found["fair_gain"].tolist() == pytest.approx([-0.08, 0.03, -0.08])
    assert found["reference_accuracy"].tolist() == [0.5] * 3
    assert frame(a_study(), records)["fair_gain"].isna().all()


def test_no_trial_at_all_makes_an_empty_table_and_no_choice(folder):
    assert write_all(folder, a_study(), []) is None
    assert len(pd.read_csv(folder.path / "trials.csv")) == 0
    assert not (folder.path / "best.json").exists()
    assert "0 of 5 trials complete" in (folder.path / "summary.md").read_text()


def test_the_summary_counts_what_was_reused():
    records = [a_record(1, 0.01), a_record(2, 0.02, epochs=2)]
    totals = records[1].result.totals.replace(epochs_trained=1, epochs_reused=9, seconds=30.0, seconds_reused=600.0)
    records[1] = records[1].replace(result=records[1].result.replace(totals=totals))
    page = summary(a_study(), records, None)
    assert "15 epochs of stages were needed: 6 were trained, 9 (60%) came from the store." in page
    assert "The trials took 90 s; training the reused epochs had taken 10 min." in page
    assert "came from the store" not in summary(a_study(), [a_record(1, state="failed")], None)


def test_only_failures_make_a_summary_with_their_reasons(folder):
    write_all(folder, a_study(), [a_record(1, state="failed")])
    assert "trial 1: out of luck" in (folder.path / "summary.md").read_text()


def test_the_choice_is_written_with_its_estimate_and_without_an_interval_from_one_seed(folder):
    choice = write_all(folder, a_study(), RECORDS)
    best = json.loads((folder.path / "best.json").read_text())
    assert best["estimate"] == choice.estimate
    assert (best["low"], best["high"]) == (None, None)
    assert best["interval"].startswith("none")
    assert best["config"]["epochs"] == 2
    assert "seed" not in best["config"]
    assert (best["study"], best["dataset"], best["trials"]) == ("example", "shapes", [2])
    assert best["why"] == choice.why


def test_four_seeds_of_the_choice_make_an_interval(folder):
    write_all(folder, a_study(), [a_record(n + 1, 0.01 * n, replicate=n) for n in range(4)])
    best = json.loads((folder.path / "best.json").read_text())
    assert best["low"] < best["estimate"] < best["high"]
    assert "seeds" in best["interval"]


def test_a_chosen_config_that_loses_to_the_best_baseline_is_said_to_first(folder):
    study = a_study(reference=references(0.5))
    folder.write_study(study)
    write_all(folder, study, [a_record(1, 0.0, epochs=4), weak(2, 0.2, baseline=0.2)])
    best = json.loads((folder.path / "best.json").read_text())
    assert best["over_reference"] == pytest.approx(-0.1)
    first = (folder.path / "summary.md").read_text().split("\n\n")[1]
    for text in (best["why"], first):
        assert text.startswith("The chosen config's mixture loses to the best baseline")
        assert "10.00 points" in text.split(".\n")[0]


def test_a_chosen_config_that_beats_the_best_baseline_is_not_said_to_lose(folder):
    write_all(folder, a_study(reference=references(0.5)), RECORDS)
    assert json.loads((folder.path / "best.json").read_text())["over_reference"] > 0
    assert "loses" not in (folder.path / "summary.md").read_text()


def test_the_summary_and_best_json_have_one_estimate(folder):
    records = list(search(30))
    study = a_study(space=PRESETS["notebook"])
    write_all(folder, study, records)
    estimate = json.loads((folder.path / "best.json").read_text())["estimate"]
    assert f"{100 * estimate:+.2f} points" in (folder.path / "summary.md").read_text()
    assert estimate == choose(study, records).estimate


def test_the_summary_has_the_source_of_the_data_and_the_states():
    text = summary(a_study(source="shapes, drawn by code: no network"), RECORDS, None)
    assert "shapes, drawn by code: no network" in text
    assert "2 of 5 trials complete, 1 failed, 1 under way, or left by an interruption." in text


def test_the_summary_counts_the_trials_of_the_search_alone_against_those_that_were_wanted():
    beside = [a_record(2, phase="refine", replicate=1), a_record(3, phase="ask", replicate=2)]
    text = summary(a_study(), [a_record(1), *beside], None)
    assert "1 of 5 trials complete, 1 more of refining, 1 more asked for." in text


def test_the_table_of_the_summary_has_one_column_for_the_config():
    records = [a_record(1, 0.01, epochs=2), a_record(2, 0.02, epochs=4, use_large_experts=True)]
    text = summary(a_study(), records, choose(a_study(), records))
    head, _, first, second = (line for line in text.splitlines() if line.startswith("|"))
    assert head.split(" | ")[1:4] == ["seed", "config", "gain"]
    assert first.split(" | ")[2] == "epochs 4, use_large_experts"
    assert second.split(" | ")[2] == "epochs 2"


def test_the_notebook_protocol_is_called_optimistic():
    assert "optimistic" in summary(a_study(protocol="notebook"), [], None)


def test_everything_derived_can_be_made_again(folder):
    write_all(folder, a_study(), RECORDS)
    before = {name: (folder.path / name).read_text() for name in ("trials.csv", "best.json", "summary.md")}
    write_all(folder, a_study(), RECORDS)
    assert before == {name: (folder.path / name).read_text() for name in before}
    assert not list(folder.path.glob(".partial*"))


def test_a_database_that_cannot_be_written_is_named_and_the_other_tables_stand(folder, capsys):
    (folder.path / "study.db").mkdir()
    write_all(folder, a_study(), RECORDS)
    assert str(folder.path / "study.db") in capsys.readouterr().err
    assert (folder.path / "summary.md").exists()


def test_thousands_of_records_are_tabled_in_eight_times_what_json_takes_and_the_database_is_left(tmp_path, capsys):
    study = referred(a_study(space=PRESETS["notebook"]))
    folder = write(tmp_path / "large", search(5_000), space=study.space, reference=study.reference)

    def parse():
        return [json.loads(path.read_bytes()) for path in folder.path.glob("trials/*.json")]

    def table():
        study = folder.read_study()
        write_all(folder, study, folder.read_records(study))

    least = min(cpu_seconds(parse) for _ in range(3))  # so that the limit is the same on slow machines
    assert cpu_seconds(table) < 8 * least  # measured: 4 to 5.5
    assert len(pd.read_csv(folder.path / "trials.csv")) == 5_000
    assert "lacks 5000 trials; python -m study.analyze --rebuild" in capsys.readouterr().err


def cpu_seconds(work):
    began = time.process_time()
    work()
    return time.process_time() - began
