"""The searcher as Tune calls it: proposals, replicates, budget, errors; and how many workers Tune starts."""

import json
import os
import random
import time
from types import SimpleNamespace

import optuna
import pytest
from ray.tune.execution.tune_controller import TuneController
from ray.tune.search import Searcher

import study.search.tune
from moe.config import Config
from study.search import controller as controllers
from study.search.controller import WaitingController
from study.search.ledger import Ledger
from study.search.reference import missing_references
from study.search.resources import Resources
from study.search.searcher import StudySearch
from study.search.stopping import Stop
from study.search.tune import search
from study.space import PRESETS, parse
from study.study import LOST, STALLED
from tests.study_helpers import SPACE, a_record, a_result, a_study, silent


def result_row(suggestion, gain=0.01):
    """The last row of a trial."""
    return {"result": a_result(gain, Config(**suggestion["config"])).model_dump_json()}


class Driver:
    """Calls the searcher as Tune does, one trial after another."""

    def __init__(self, *records, concurrency=1, stop=None, **study):
        self.saved = []
        self.ledger = Ledger(a_study(**study), records, self.saved.append)
        self.searcher = StudySearch(self.ledger, silent(self.ledger), stop or Stop(), concurrency)
        self.count = 0

    def launch(self):
        self.count += 1
        return f"id{self.count}", self.searcher.suggest(f"id{self.count}")

    def finish(self, trial_id, suggestion, gain=0.01):
        row = result_row(suggestion, gain)
        self.searcher.on_trial_result(trial_id, row)
        self.searcher.on_trial_complete(trial_id, row | {"done": True})

    def run(self, gain=lambda config: 0.01):
        """All trials to the end; the configs, in their order."""
        configs = []
        while True:
            trial_id, suggestion = self.launch()
            if suggestion == Searcher.FINISHED:
                return configs
            configs.append(suggestion["config"])
            self.finish(trial_id, suggestion, gain(suggestion["config"]))

    def points(self, configs):
        return [tuple(self.ledger.study.space.point(Config(**config)).values()) for config in configs]


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
    study = driver.searcher.optuna_study
    study.sampler = Stubborn()
    _, suggestion = driver.launch()
    assert suggestion["config"]["seed"] == 2  # it insisted, so it gets a replicate
    values = [trial.value for trial in study.trials if trial.state is optuna.trial.TrialState.COMPLETE]
    assert values == [0.02, 0.04] + [pytest.approx(0.03)] * 5


@pytest.mark.parametrize("answers", [[True], [False, False, True]], ids=["gone", "going"])
def test_a_trial_whose_ray_is_gone_is_left_for_a_resume_and_no_other_is_launched(answers):
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
    first = driver.ledger.study.config(SPACE.nearest({}), 0).as_json()
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


def test_a_search_is_over_once_nothing_runs_and_nothing_will():
    driver = Driver(trials=1)
    assert not driver.searcher.over
    launched = driver.launch()
    assert not driver.searcher.over
    driver.finish(*launched)
    assert driver.searcher.over
    driver.searcher._references.append(Config())
    assert not driver.searcher.over


class Tuned(SimpleNamespace):
    """A trial as Tune's callbacks get it."""

    RUNNING = "RUNNING"

    def __hash__(self):
        return hash(self.trial_id)

    def is_finished(self):
        return self.status == "TERMINATED"


@pytest.fixture
def silence(monkeypatch):
    """A search whose trials are silent: Tune's callbacks of it, a clock, and the workers that are killed."""
    driver, killed = Driver(trials=4, sampler="grid"), []
    monkeypatch.setattr(study.search.tune.ray, "kill", killed.append)
    hooks = study.search.tune._Hooks(driver.searcher, stall_s=100, private=True)
    hooks._clock = SimpleNamespace(now=0.0)
    hooks._clock.read = lambda: hooks._clock.now
    trial_id, _ = driver.launch()
    trial = Tuned(trial_id=trial_id, status="RUNNING", temporary_state=SimpleNamespace(ray_actor="its worker"))
    return driver, hooks, trial, killed


def test_a_trial_that_reports_nothing_for_too_long_fails_with_its_worker(silence):
    driver, hooks, trial, killed = silence
    for now in (0, 99, 150, 198):
        hooks._clock.now = now
        if now == 99:
            hooks.on_trial_result(1, [trial], trial, {})
        hooks.on_step_end(1, [trial])
    assert not killed
    hooks._clock.now = 200
    hooks.on_step_end(1, [trial])
    assert killed == ["its worker"]
    assert driver.ledger.records[1].error.startswith(STALLED)
    trial.status = "TERMINATED"
    hooks.on_step_end(1, [trial])
    assert not hooks._live


@pytest.mark.parametrize("private", [True, False])
def test_a_worker_that_never_starts_ends_a_study_of_one_machine_and_a_cluster_may_be_busy(silence, private):
    driver, hooks, trial, killed = silence
    hooks._private, trial.status, trial.temporary_state.ray_actor = private, "PENDING", None
    for now in (0, 101, 399):
        hooks._clock.now = now
        hooks.on_step_end(1, [trial])
    assert not driver.searcher.stop.now()
    hooks._clock.now = 401
    hooks.on_step_end(1, [trial])
    assert driver.searcher.stop.now() == private
    assert not killed


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


def test_a_result_is_saved_as_soon_as_it_is_reported():
    driver = Driver(trials=3)
    trial_id, suggestion = driver.launch()
    driver.searcher.on_trial_result(trial_id, result_row(suggestion))
    assert driver.saved[-1].state == "complete"


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


def epoch_row():
    metrics = {"loss": 2.0, "accuracy": 0.25, "validation_loss": 2.1, "validation_accuracy": 0.2, "seconds": 0.5}
    return {"stage": "gate", "epoch": 1, "epochs": 4, "reused": False, **metrics, "training_iteration": 1}


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


def test_a_resume_takes_up_what_was_in_flight_first_and_counts_what_was_done():
    interrupted = a_record(2, state="running", epochs=4, replicate=1, use_large_experts=True)
    driver = Driver(a_record(1), interrupted, a_record(3, state="failed", epochs=2), trials=3)
    configs = driver.run()
    assert configs[0] == interrupted.config.as_json()
    assert sorted(driver.ledger.records) == [1, 2, 3, 4]
    assert len(configs) == 2
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


def test_the_driver_spends_little_on_a_trial_of_a_long_study():
    records = [a_record(n, 0.001 * (n % 7), replicate=n // 6, epochs=(1, 2, 4)[n % 3]) for n in range(1, 1001)]
    driver = Driver(*records, trials=1010)
    began = time.perf_counter()
    assert len(driver.run()) == 10
    assert (time.perf_counter() - began) / 10 < 0.25  # 0.014 on a machine at rest, mostly TPE's own work


def test_ten_short_trials_two_at_a_time_start_two_workers_which_keep_freed_memory_in_one_heap(monkeypatch, tmp_path):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert workers_started(monkeypatch, tmp_path) == 2  # 10 without WaitingController


def workers_started(monkeypatch, folder):
    """How many workers Tune asks Ray for, in a study of ten trials that take no time."""
    from ray.air.execution._internal import RayActorManager  # private: the one place where a worker is asked for

    workers, add_actor = [], RayActorManager.add_actor

    def count(manager, *arguments, **named):
        workers.append(add_actor(manager, *arguments, **named))
        return workers[-1]

    def evaluate(job, config, send):
        assert os.environ["MALLOC_ARENA_MAX"] == "1"
        send({"result": a_result(random.Random(config.epochs).random() / 10, config).model_dump_json()})

    monkeypatch.setattr(RayActorManager, "add_actor", count)
    monkeypatch.setattr(study.search.tune, "evaluate", evaluate)
    driver = Driver(trials=10, concurrency=2, sampler="random")
    job = SimpleNamespace(resources=Resources(cpus_per_trial=1, gpus_per_trial=0, concurrency=2))
    search(driver.searcher, job, "local", folder / ".tune", stall_s=600)
    assert driver.ledger.ended("complete") == 10
    return len(workers)


@pytest.mark.parametrize(
    ("own", "resetting", "started", "free_worker_is_taken"),
    [(None, False, False, True), ("own", False, False, True), ("own", False, True, False), ("own", True, True, True)],
)
def test_a_trial_whose_worker_is_starting_waits_for_it(monkeypatch, own, resetting, started, free_worker_is_taken):
    controller = a_controller(monkeypatch, own, resetting, started)
    assert controller._maybe_reuse_cached_actor("trial") is free_worker_is_taken


def test_a_trial_does_not_wait_forever_for_a_worker_that_never_comes_up(monkeypatch):
    controller = a_controller(monkeypatch, "own", resetting=False, started=True)
    taken = []
    for now in (0, controllers.MAX_WAIT_S - 1, controllers.MAX_WAIT_S):
        monkeypatch.setattr(controllers, "monotonic", lambda now=now: 1000 + now)
        taken.append(controller._maybe_reuse_cached_actor("trial"))
    assert taken == [False, False, True]


def a_controller(monkeypatch, own, resetting, started):
    """One with a free worker, and a trial with or without a worker of its own."""
    monkeypatch.setattr(TuneController, "__init__", lambda controller: None)
    monkeypatch.setattr(TuneController, "_maybe_reuse_cached_actor", lambda controller, trial: True)
    controller = WaitingController()
    controller._trial_to_actor = {"trial": own} if own else {}
    controller._resetting_trials = {"trial"} if resetting else set()
    controller._actor_manager = SimpleNamespace(is_actor_started=lambda actor: started)
    return controller


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


def test_a_grid_runs_the_point_of_a_lost_worker_again_and_no_other_twice():
    driver = Driver(sampler="grid", trials=SPACE.size)
    lost, _ = driver.launch()
    driver.searcher.on_trial_complete(lost, error=True)
    assert sorted(driver.points(driver.run())) == sorted(tuple(SPACE.at(n).values()) for n in range(SPACE.size))
