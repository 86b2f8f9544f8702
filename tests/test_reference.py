"""The references of a study, as the searcher runs them."""

import pytest
from ray.tune.search import Searcher

from study.conclusion import finished
from study.search import searcher
from study.search.reference import missing_references
from study.search.searcher import StudySearch
from study.search.stopping import Stop
from study.space import PRESETS
from study.study import Reference
from tests.search_helpers import Driver
from tests.study_helpers import a_record, a_study, silent


def test_references_run_before_the_first_trial_and_are_saved_as_they_end():
    driver, saved = Driver(trials=1, refine=0), []
    driver.ledger._save_study = saved.append
    configs = missing_references(driver.ledger.study)
    assert [(config.epochs, config.train_examples) for config in configs] == [(4, 5000)]  # flags it does not see
    driver.searcher = StudySearch(driver.ledger, silent(driver.ledger), Stop(), 1, configs)
    trial_id, suggestion = driver.launch()
    assert suggestion["reference"]
    assert driver.launch()[1] is None
    driver.searcher.on_trial_result(trial_id, {"accuracy": 0.5})
    driver.searcher.on_trial_complete(trial_id, {"accuracy": 0.5, "done": True})
    assert [study.reference[0].accuracy for study in saved] == [0.5]
    assert missing_references(saved[0]) == []
    assert "reference" not in driver.launch()[1]


@pytest.mark.parametrize(("objective", "waits"), [("gain", False), ("fair_gain", True)])
def test_trials_start_beside_the_references_unless_their_objective_needs_them(objective, waits):
    driver = Driver(trials=4, objective=objective)
    driver.searcher = StudySearch(
        driver.ledger, silent(driver.ledger), Stop(), 2, missing_references(driver.ledger.study)
    )
    trial_id, suggestion = driver.launch()
    assert suggestion["reference"]
    assert (driver.launch()[1] is None) is waits
    driver.searcher.on_trial_result(trial_id, {"accuracy": 0.5})
    driver.searcher.on_trial_complete(trial_id, {"accuracy": 0.5, "done": True})
    assert "reference" not in driver.launch()[1]
    assert (driver.launch()[1] is None) is not waits  # two at a time


def test_a_reference_whose_worker_is_lost_is_trained_again_and_after_three_times_left_out(monkeypatch):
    monkeypatch.setattr(searcher, "RAY_ENDS_S", 0.0)
    driver = Driver(trials=1)
    progress, configs = silent(driver.ledger), missing_references(driver.ledger.study)
    driver.searcher = StudySearch(driver.ledger, progress, Stop(), 1, configs)
    for _ in range(3):
        assert not progress.warnings
        trial_id, suggestion = driver.launch()
        assert suggestion["reference"]
        driver.searcher.on_trial_complete(trial_id, error=True)
    assert any("reference is left out" in sentence for sentence in progress.warnings)
    assert "reference" not in driver.launch()[1]


def test_a_search_is_not_over_while_a_reference_runs_that_may_be_lost(monkeypatch):
    monkeypatch.setattr(searcher, "RAY_ENDS_S", 0.0)
    driver = Driver(trials=1, refine=0)
    configs = missing_references(driver.ledger.study)
    driver.searcher = StudySearch(driver.ledger, silent(driver.ledger), Stop(), 2, configs)
    reference, _ = driver.launch()
    driver.finish(*driver.launch())
    assert driver.launch()[1] is None
    driver.searcher.on_trial_complete(reference, error=True)
    reference, suggestion = driver.launch()
    assert suggestion["reference"]
    driver.searcher.on_trial_result(reference, {"accuracy": 0.5})
    driver.searcher.on_trial_complete(reference, {"accuracy": 0.5, "done": True})
    assert driver.launch()[1] == Searcher.FINISHED


def test_a_study_without_a_reference_that_it_wants_is_not_finished():
    study = a_study(trials=1, refine=0)
    complete = [a_record(1)]
    assert not finished(study, complete)
    assert finished(a_study(trials=1, refine=0, objective="fair_gain"), complete)  # its trials were judged without
    assert finished(study.replace(reference=(Reference(config=missing_references(study)[0], accuracy=0.5),)), complete)


def test_a_reference_that_fails_is_left_out_for_its_own_reason_alone():
    driver = Driver(trials=1)
    progress, configs = silent(driver.ledger), missing_references(driver.ledger.study)
    driver.searcher = StudySearch(driver.ledger, progress, Stop(), 1, configs)
    trial_id, _ = driver.launch()
    driver.searcher.on_trial_result(trial_id, {"error": "OSError on here: no room", "traceback": "Traceback"})
    driver.searcher.on_trial_complete(trial_id, error=True)
    assert progress.warnings == {"a reference is left out: OSError on here: no room"}


def test_the_references_are_every_size_and_number_of_examples_with_the_most_epochs():
    found = missing_references(a_study(space=PRESETS["notebook"]))
    assert len(found) == 6
    assert {config.epochs for config in found} == {8}
