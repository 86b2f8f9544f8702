"""The references of a study, as the searcher runs them."""

import pytest

from study.search.reference import missing_references
from study.search.searcher import StudySearch
from study.search.stopping import Stop
from study.space import PRESETS
from tests.search_helpers import Driver
from tests.study_helpers import a_study, silent


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


def test_a_reference_whose_worker_is_lost_is_left_out_with_a_warning():
    driver = Driver(trials=1)
    progress, configs = silent(driver.ledger), missing_references(driver.ledger.study)
    driver.searcher = StudySearch(driver.ledger, progress, Stop(), 1, configs)
    trial_id, _ = driver.launch()
    driver.searcher.on_trial_complete(trial_id, error=True)
    assert any("reference is left out" in sentence for sentence in progress.warnings)
    assert "reference" not in driver.launch()[1]


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
