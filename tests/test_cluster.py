"""`python -m study.submit` on a real cluster of two nodes on this machine, with token authentication."""

import os
import signal

import pandas as pd
import pytest

from study.folder import Folder
from study.study import LOST
from tests.benchmarks.cluster import Cluster, Person, until


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    with Cluster(1, 1) as cluster:
        yield Person(tmp_path_factory.mktemp("person"), cluster)


@pytest.fixture(scope="module")
def follower(person):
    """A study that is on its way there, and the command that follows it."""
    with person.start("--", *person.study, "--trials", "200", "--name", "four") as process:
        yield process


@pytest.fixture(scope="module")
def running(person, follower):
    """The study once it has a complete trial."""
    printed = until(follower, "1 of 200 trials done")
    assert "Submitted as study-four-1.\n" in printed
    return printed


@pytest.fixture(scope="module")
def stopped(person, follower, running):
    """The study after it lost a node and was stopped; what the stop printed."""
    person.cluster.wait_for_trial(1)
    person.cluster.kill(1)
    until(follower, f"failed: {LOST}")
    until(follower, "trials done")  # it continues with the node that is left
    code, printed = person.call("stop")
    assert code == 75, printed
    follower.communicate(timeout=60)
    return printed


def test_a_wrong_token_is_refused(person):
    code, printed = person.call("status", RAY_AUTH_TOKEN="0" * 64)
    assert (code, len(printed.splitlines()), "RAY_AUTH_TOKEN" in printed) == (4, 1, True)


def test_a_folder_that_the_nodes_do_not_share_is_refused_in_a_dry_run(person):
    each_its_own = "/proc/self/cwd/results"  # every node has a working folder of its own
    code, printed = person.call("--dry-run", "--", *person.study, "--results", each_its_own)
    assert code == 4, printed
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("failed")] == ["results"]
    assert printed.splitlines()[-1] == "No study was submitted."


def test_every_node_is_checked_before_the_first_trial(running):
    first = next(number for number, line in enumerate(running) if "trial 1 started" in line)
    checks = [line.split()[:2] for line in running[:first] if line.startswith(("ok ", "failed "))]
    assert checks == [["ok", name] for name in ("nodes", "versions", "results", "store", "data", "arithmetic")]


def test_a_running_study_is_not_submitted_again(person, running):
    code, printed = person.call("--", *person.study, "--name", "four")
    assert (code, "study-four-1" in printed) == (4, True)


def test_ctrl_c_while_following_leaves_the_study_running(person, running):
    with person.start("logs", "--follow") as watcher:
        until(watcher, "trials done")
        os.killpg(watcher.pid, signal.SIGINT)
        printed = watcher.communicate(timeout=20)[0]
    assert watcher.returncode == 75
    assert f"python -m study.submit stop --address {person.cluster.url} four" in printed
    assert "four is running" in person.call("status", "four")[1]


def test_a_study_survives_a_lost_node_and_a_stop_is_exit_code_75(person, follower, stopped):
    again = f"python -m study.submit resume --address {person.cluster.url} four"
    assert stopped.count(again) == 2  # by the study itself, and by the command
    assert follower.returncode == 75
    assert person.complete("four")


def test_a_resume_loses_no_finished_trial_and_the_folder_is_fetched(person, stopped):
    before = person.complete("four")
    trials = str(len(before) + 1)
    code, printed = person.call("resume", "--", "--trials", trials)
    assert code == 0, printed
    after = person.complete("four")
    assert len(after) == len(before) + 1
    assert {number: after[number] for number in before} == before
    assert f"{trials} of {trials} trials done" in person.call("status", "four")[1]

    code, printed = person.call("fetch")
    assert code == 0, printed
    here = Folder(person.home / "results" / "four")
    assert [record.trial for record in here.read_records(here.read_study())] == sorted(
        record["trial"] for record in person.records("four")
    )
    assert (pd.read_csv(here.path / "trials.csv")["state"] == "complete").sum() == len(after)
    assert not (here.path / ".tune").exists()
    assert list(person.results.parent.rglob(".check-*")) == []
