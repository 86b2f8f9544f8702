"""Tasks under a real Ray, in workers that are killed and that stop."""

import os
import signal
import time

import pytest
import ray

import study.search.ray_cluster
from moe.config import Config
from study.machine import ClusterError
from study.rules import Rule
from study.search.resources import Node, Resources
from study.search.stopping import Stop
from study.search.tasks import run_tasks


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run tasks that are words, one at a time; what they found."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(study.search.ray_cluster, "here", lambda: Node(2))
    pids = tmp_path / "pids"

    def work(word, step):
        with pids.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if word == "killed once" and len(pids.read_text().split()) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        for _ in range(5):
            time.sleep(0.1)
            step("one", "step")
        if word == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(60)  # another thread may receive it, a moment later
        return word, ray.get_runtime_context().get_assigned_resources()["CPU"]

    def config(word):
        return Config(epochs=2 if word == "large" else 1)

    def run(*words):
        found = []
        rules = (Rule(when={"epochs": (2,)}, cpus=2),)
        resources = Resources(cpus_per_trial=1, gpus_per_trial=0, concurrency=1, rules=rules)
        try:
            run_tasks(work, words, config, resources, "local", Stop(), found.append, stall_s=18)
        finally:
            run.found, run.pids = found, [int(pid) for pid in pids.read_text().split()]

    return run


def test_a_task_whose_worker_is_killed_runs_again_and_one_that_stands_still_is_ended(run):
    with pytest.raises(ClusterError, match=r"a worker reported nothing for 0\.3 minutes"):
        run("first", "killed once", "last", "large", "stopped")
    assert run.found == [("first", 1), ("killed once", 1), ("last", 1), ("large", 2)]
    assert len(run.pids) == 6
    assert len(set(run.pids)) == 4  # a worker goes on with the next task, unless that one has other resources
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{run.pids[-1]}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{run.pids[-1]}")
