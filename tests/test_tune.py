"""What Tune does around the searcher: silent trials, and how many workers are started."""

import os
import random
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.tune.execution.tune_controller import TuneController

import study.search.ray_cluster
import study.search.tune
from study.rules import Rule
from study.search import controller as controllers
from study.search.controller import WaitingController
from study.search.resources import Node, Resources
from study.search.tune import search
from study.study import STALLED
from tests.search_helpers import Driver
from tests.study_helpers import a_result


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


def test_ten_short_trials_two_at_a_time_start_two_workers_which_keep_freed_memory_in_one_heap(monkeypatch, tmp_path):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    monkeypatch.delenv("RAY_prestart_worker_first_driver", raising=False)
    assert workers_started(monkeypatch, tmp_path) == 2  # 10 without WaitingController
    assert len(list(tmp_path.glob("worker-*"))) == 2  # logs of processes: none was started ahead, to stay idle


def workers_started(monkeypatch, folder):
    """How many workers Tune asks Ray for, in a study of ten trials that take no time."""
    from ray.air.execution._internal import RayActorManager  # private: the one place where a worker is asked for

    workers, add_actor = [], RayActorManager.add_actor

    def count(manager, *arguments, **named):
        workers.append(add_actor(manager, *arguments, **named))
        return workers[-1]

    def evaluate(job, config, send):
        assert os.environ["MALLOC_ARENA_MAX"] == "1"
        for log in Path(os.environ["RAY_TMPDIR"]).glob("moe-*/ray/session_latest/logs/worker-*.out"):
            (folder / log.name).touch()
        send({"result": a_result(random.Random(config.epochs).random() / 10, config).model_dump_json()})

    monkeypatch.setattr(RayActorManager, "add_actor", count)
    monkeypatch.setattr(study.search.tune, "evaluate", evaluate)
    driver = Driver(trials=10, concurrency=2, sampler="random")
    job = SimpleNamespace(resources=Resources(cpus_per_trial=1, gpus_per_trial=0, concurrency=2))
    search(driver.searcher, job, "local", folder / ".tune", stall_s=600)
    assert driver.ledger.ended("complete") == 10
    return len(workers)


def test_trials_with_the_logical_cpus_and_gpus_of_their_rules_run_side_by_side(monkeypatch, tmp_path):
    def evaluate(job, config, send):
        assigned = ray.get_runtime_context().get_assigned_resources()
        (tmp_path / f"{config.use_large_experts} {assigned['CPU']:g} {assigned['GPU']:g}").touch()
        for _ in range(600):
            if len(list(tmp_path.glob("* * *"))) == 2:  # one of each kind runs
                return send({"result": a_result(0.01, config).model_dump_json()})
            time.sleep(0.1)
        raise AssertionError("alone")

    monkeypatch.setattr(study.search.tune, "evaluate", evaluate)
    monkeypatch.setattr(study.search.ray_cluster, "here", lambda: Node(3, 1))
    rules = (Rule(when={"use_large_experts": (True,)}, cpus=2, gpus=0.5),)
    driver = Driver(trials=2, refine=0, concurrency=2, sampler="grid", seed=1)
    job = SimpleNamespace(resources=Resources(cpus_per_trial=1, gpus_per_trial=0.25, concurrency=2, rules=rules))
    search(driver.searcher, job, "local", tmp_path / ".tune", stall_s=600)
    assert driver.ledger.ended("complete") == 2
    assert {path.name for path in tmp_path.glob("* * *")} == {"False 1 0.25", "True 2 0.5"}


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
