"""The searcher as Tune calls it: proposals, replicates, budget, reports."""

import json
import time

import optuna
import pytest
from ray.tune.search import Searcher

from moe.config import Config
from study.search.ledger import Ledger
from study.search.stopping import Stop
from study.space import parse
from tests.search_helpers import Driver, epoch_row, result_row
from tests.study_helpers import SPACE, a_record, a_study


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "qmc", "grid"])
def test_the_first_trial_is_the_notebooks_default_and_the_budget_is_kept(sampler):
    driver = Driver(sampler=sampler, trials=8)
    configs = driver.run()
    assert len(configs) == 8
    assert (configs[0]["epochs"], configs[0]["use_large_experts"], configs[0]["seed"]) == (1, False, 0)


@pytest.mark.parametrize(("sampler", "covered"), [("tpe", 4), ("random", 4), ("grid", SPACE.size)])
def test_a_config_is_replicated_with_the_next_seed_once_its_sampler_insists_or_nothing_is_left(sampler, covered):
    driver = Driver(sampler=sampler, trials=SPACE.size + 2)
    configs = driver.run(lambda config: 0.01 * config["epochs"])
    assert len(set(driver.points(configs)[: SPACE.size])) >= covered
    seeds = {}
    for point, config in zip(driver.points(configs), configs, strict=True):
        seeds.setdefault(point, []).append(config["seed"])
    assert all(each == list(range(len(each))) for each in seeds.values())
    assert len(driver.saved) == 2 * len(configs)


def test_a_tried_config_is_told_with_its_mean_objective_and_another_is_asked_for():
    class Stubborn(optuna.samplers.BaseSampler):
        """Proposes the same point for ever."""

        def infer_relative_search_space(self, study, trial):
            return {}

        def sample_relative(self, study, trial, search_space):
            return {}

        def sample_independent(self, study, trial, param_name, param_distribution):
            return 0

    driver = Driver(a_record(1, 0.02), a_record(2, 0.04, replicate=1), trials=4)
    study = driver.searcher._proposals.study
    study.sampler = Stubborn()
    _, suggestion = driver.launch()
    assert suggestion["config"]["seed"] == 2  # it insisted, so it gets a replicate
    values = [trial.value for trial in study.trials if trial.state is optuna.trial.TrialState.COMPLETE]
    assert values == [0.02, 0.04] + [pytest.approx(0.03)] * 5


def test_a_search_is_over_once_nothing_runs_and_nothing_will():
    driver = Driver(trials=1)
    assert not driver.searcher.over
    launched = driver.launch()
    assert not driver.searcher.over
    driver.finish(*launched)
    assert driver.searcher.over
    driver.searcher._references.append(Config())
    assert not driver.searcher.over


def test_a_space_of_scalars_is_a_study_of_replicates():
    fixed = parse("one", {"epochs": 1, "test_examples": 1000})
    for sampler in ("tpe", "gp", "random", "qmc", "grid"):
        configs = Driver(space=fixed, sampler=sampler, trials=3, seed=4).run()
        assert [config["seed"] for config in configs] == [4000, 4001, 4002]


def test_no_more_run_at_once_than_allowed_and_no_more_start_than_are_wanted():
    driver = Driver(concurrency=3, trials=4, sampler="random")
    launched = [driver.launch() for _ in range(4)]
    assert [suggestion is None for _, suggestion in launched] == [False, False, False, True]
    driver.finish(*launched[0])
    assert driver.launch()[1] is not None
    driver.finish(*launched[1])
    assert driver.launch()[1] is None  # two done and two running are enough
    assert len({json.dumps(suggestion["config"]) for _, suggestion in launched[:3]}) == 3


def test_a_result_is_saved_as_soon_as_it_is_reported():
    driver = Driver(trials=3)
    trial_id, suggestion = driver.launch()
    driver.searcher.on_trial_result(trial_id, result_row(suggestion))
    assert driver.saved[-1].state == "complete"


def test_the_progress_gets_the_stage_the_epoch_and_its_metrics():
    reports = []
    driver = Driver(trials=3)
    driver.searcher._progress.progressed = lambda number, report: reports.append((number, report))
    trial_id, _ = driver.launch()
    driver.searcher.on_trial_result(trial_id, epoch_row())
    [(number, report)] = reports
    assert (number, report.stage, report.epoch, report.epochs, report.reused) == (1, "gate", 1, 4, False)
    assert (report.loss, report.accuracy, report.validation_loss, report.validation_accuracy) == (2.0, 0.25, 2.1, 0.2)


def test_the_progress_gets_the_warnings_of_any_row():
    warnings = []
    driver = Driver(trials=3)
    driver.searcher._progress.warned = warnings.append
    trial_id, suggestion = driver.launch()
    driver.searcher.on_trial_result(trial_id, epoch_row() | {"warnings": ["first"]})
    driver.searcher.on_trial_result(trial_id, result_row(suggestion) | {"warnings": ["second", "third"]})
    assert warnings == ["first", "second", "third"]


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_a_resume_takes_up_what_was_in_flight_first_and_counts_what_was_done(sampler):
    interrupted = a_record(2, state="running", epochs=4, replicate=1, use_large_experts=True)
    driver = Driver(a_record(1), interrupted, a_record(3, state="failed", epochs=2), trials=3, sampler=sampler)
    configs = driver.run()
    assert configs[0] == interrupted.config.as_json()
    assert sorted(driver.ledger.records) == [1, 2, 3, 4]
    assert len(configs) == 2
    assert driver.ledger.records[2].config == interrupted.config
    assert driver.ledger.records[1] == a_record(1)


def test_a_resumed_sampler_does_not_propose_the_same_points_again():
    first = Driver(sampler="random", trials=3)
    first.run()
    again = Driver(*first.ledger.records.values(), sampler="random", trials=6)
    assert again.points(again.run()) != first.points(
        [record.config.as_json() for record in first.ledger.records.values()]
    )


def test_a_deadline_stops_launching_in_time_for_another_trial_to_end():
    ledger = Ledger(a_study(), [a_record(1)], lambda record: None)  # its trial took 60 s
    assert Stop(deadline=time.monotonic() + 50).launching_is_over(ledger)
    assert not Stop(deadline=time.monotonic() + 70).launching_is_over(ledger)
    assert not Stop(deadline=time.monotonic() + 50).now()
    assert Stop(deadline=time.monotonic() - 1).now()
    assert Driver(stop=Stop(deadline=time.monotonic() - 1)).launch()[1] == Searcher.FINISHED


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_the_driver_spends_little_on_a_trial_of_a_long_study(sampler):
    records = [a_record(n, 0.001 * (n % 7), replicate=n // 6, epochs=(1, 2, 4)[n % 3]) for n in range(1, 1001)]
    driver = Driver(*records, trials=1010, sampler=sampler)
    began = time.perf_counter()
    assert len(driver.run()) == 10
    assert (time.perf_counter() - began) / 10 < 0.25  # 0.014 on a machine at rest, mostly TPE's own work
