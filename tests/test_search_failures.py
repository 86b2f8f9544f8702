"""The searcher as Tune calls it: trials that fail, are lost or stopped, and their successors."""

import json

import pytest
from ray.tune.search import Searcher

from study.search import searcher
from study.search.stopping import Stop
from study.study import LOST, STALLED
from tests.search_helpers import Driver, epoch_row
from tests.study_helpers import SPACE


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """That Ray is still there is believed at once."""
    monkeypatch.setattr(searcher, "RAY_ENDS_S", 0.0)


@pytest.mark.parametrize("answers", [[True], [False, False, True]], ids=["gone", "going"])
def test_a_trial_whose_ray_is_gone_is_left_for_a_resume_and_no_other_is_launched(answers, monkeypatch):
    monkeypatch.setattr(searcher, "RAY_ENDS_S", 2.0)
    stop = Stop(is_lost=iter(answers).__next__)
    driver = Driver(stop=stop, trials=4)
    trial_id, _ = driver.launch()
    driver.searcher.on_trial_complete(trial_id, error=True)
    assert [record.state for record in driver.ledger.records.values()] == ["running"]
    assert stop.now()
    assert driver.launch()[1] == Searcher.FINISHED


@pytest.mark.parametrize("how", ["lost", "stalled", "not run"])
def test_a_trial_whose_worker_is_to_blame_is_tried_again_with_its_seed(how):
    driver = Driver(trials=4, sampler="grid")
    trial_id, first = driver.launch()
    if how == "stalled":
        driver.searcher.fail_stalled(trial_id, 2.0)
    driver.searcher.on_trial_complete(trial_id, error=True)
    if how == "not run":
        driver.searcher.explain(trial_id, ValueError("no room"))
    error = driver.ledger.records[1].error
    assert error.startswith({"lost": LOST, "stalled": f"{STALLED} 2 minutes", "not run": "the trial could not"}[how])
    assert driver.run()[0] == first["config"]


def test_a_result_that_comes_too_late_does_not_change_a_trial_that_has_failed_as_stalled():
    driver = Driver(trials=2)
    trial_id, suggestion = driver.launch()
    driver.searcher.fail_stalled(trial_id, 2.0)
    driver.finish(trial_id, suggestion)
    assert driver.ledger.records[1].error.startswith(STALLED)


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("lost", [[1], [2, 3], [1, 2], [3, 5]])
@pytest.mark.parametrize("trials", [4, SPACE.size, SPACE.size + 3])
def test_a_grid_with_lost_trials_has_the_configs_and_seeds_of_one_without(trials, lost, resumed):
    calm = Driver(trials=trials, sampler="grid").run()
    driver = Driver(trials=trials, sampler="grid")
    configs = []
    while (suggestion := driver.launch())[1] != Searcher.FINISHED:
        if driver.count in lost:
            driver.searcher.on_trial_complete(suggestion[0], error=True)
            if resumed:
                count, driver = driver.count, Driver(*driver.ledger.records.values(), trials=trials, sampler="grid")
                driver.count = count
        else:
            driver.finish(*suggestion)
            configs.append(suggestion[1]["config"])
    assert sorted(configs, key=str) == sorted(calm, key=str)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_config_whose_worker_is_lost_again_and_again_does_not_keep_a_grid_from_its_end(resumed):
    driver = Driver(trials=SPACE.size + 2, sampler="grid")
    first = driver.ledger.study.config(SPACE.default, 0).as_json()
    tries, configs = 0, []
    while (suggestion := driver.launch())[1] != Searcher.FINISHED:
        if suggestion[1]["config"] == first and tries < 3:
            tries += 1
            driver.searcher.on_trial_complete(suggestion[0], error=True)
            if resumed or driver.ledger.too_many_failed:
                driver = Driver(*driver.ledger.records.values(), trials=SPACE.size + 2, sampler="grid")
                driver.count = 100 * tries
        else:
            driver.finish(*suggestion)
            configs.append(suggestion[1]["config"])
    assert tries == 3
    assert len({*driver.points(configs)}) >= SPACE.size - 1
    assert len({json.dumps(config) for config in configs}) == SPACE.size + 2


def test_an_error_fails_the_trial_with_its_sentence_and_another_takes_its_place():
    driver = Driver(trials=1)
    trial_id, _ = driver.launch()
    driver.searcher.on_trial_result(trial_id, {"error": "the loss is nan", "traceback": "Traceback"})
    driver.searcher.on_trial_complete(trial_id, {"error": "the loss is nan", "traceback": "Traceback"})
    failed = driver.ledger.records[1]
    assert (failed.state, failed.error, failed.traceback) == ("failed", "the loss is nan", "Traceback")
    assert len(driver.run()) == 1


def test_a_worker_that_dies_without_a_report_fails_its_trial():
    driver = Driver(trials=1)
    trial_id, _ = driver.launch()
    driver.searcher.on_trial_complete(trial_id, error=True)
    assert driver.ledger.records[1].error == LOST


def test_a_trial_that_tune_could_not_run_fails_with_tunes_reason():
    driver = Driver(trials=2)
    trial_id, _ = driver.launch()
    driver.searcher.on_trial_complete(trial_id, error=True)
    driver.searcher.explain(trial_id, ModuleNotFoundError("No module named 'x'"))
    assert driver.saved[-1].error == "the trial could not be run: ModuleNotFoundError: No module named 'x'"


def test_too_many_failures_end_the_search():
    driver = Driver(trials=10)
    for _ in range(3):
        trial_id, _ = driver.launch()
        driver.searcher.on_trial_complete(trial_id, error=True)
    assert driver.launch()[1] == Searcher.FINISHED


def test_a_worker_that_a_signal_took_along_leaves_its_trial_for_a_resume():
    stop = Stop()
    driver = Driver(trials=3, stop=stop)
    trial_id, _ = driver.launch()
    stop.signalled = True
    driver.searcher.on_trial_complete(trial_id, error=True)
    assert driver.ledger.records[1].state == "running"


def test_a_trial_that_is_stopped_on_the_way_stays_running_for_a_resume():
    driver = Driver(trials=3)
    trial_id, _ = driver.launch()
    driver.searcher.on_trial_result(trial_id, epoch_row())
    driver.searcher.on_trial_complete(trial_id, epoch_row())
    assert driver.ledger.records[1].state == "running"
    assert len(driver.saved) == 1


def test_a_grid_runs_the_point_of_a_lost_worker_again_and_no_other_twice():
    driver = Driver(sampler="grid", trials=SPACE.size)
    lost, _ = driver.launch()
    driver.searcher.on_trial_complete(lost, error=True)
    assert sorted(driver.points(driver.run())) == sorted(tuple(SPACE.at(n).values()) for n in range(SPACE.size))
