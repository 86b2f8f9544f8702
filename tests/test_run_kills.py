"""`python -m study.run` under real kills and signals, and what a study finds whatever happened to it."""

import os
import random
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from moe.machine import cpus
from tests.benchmarks.chaos_study import RAYLET, WORKER, Count, Scene, disturbed, repeat, table
from tests.run_helpers import ONE_AT_A_TIME, SMALL, SPACE, below, call, furnished, gone, records, start, until

GRID = (*SMALL, "--space", "four.yaml", "--sampler", "grid")
MOST = str(min(2, cpus()))


class Killed(NamedTuple):
    """A study whose driver was killed in its second trial, and which was resumed for one trial more."""

    home: Path
    left: bool  # a process that outlived the driver
    before: list[dict]
    code: int
    printed: str


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    home = furnished(tmp_path_factory.mktemp("killed"))
    with start(home, *GRID, "--trials", "3", "--name", "killed", *ONE_AT_A_TIME) as driver:
        until(driver, "trial 2 started")
        processes = below(driver.pid)
        driver.kill()
    left, before = not gone(processes), records(home, "killed")
    return Killed(home, left, before, *call(home, "--resume", "--name", "killed", "--trials", "4", *ONE_AT_A_TIME))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a study that nothing happened to, and that had no store."""
    home = furnished(tmp_path_factory.mktemp("undisturbed"))
    words = ("--trials", "4", "--name", "without", "--cpus-per-trial", MOST, "--concurrency", "1", "--no-store")
    code, printed = call(home, *GRID, *words)
    assert code == 0, printed
    return home / "results" / "without"


def test_a_driver_killed_in_mid_trial_loses_nothing_that_was_finished(killed):
    assert not killed.left  # Ray does not outlive its driver
    assert [record["state"] for record in killed.before] == ["complete", "running"]
    assert killed.code == 0, killed.printed
    after = records(killed.home, "killed")
    assert after[0] == killed.before[0]
    assert after[1]["config"] == killed.before[1]["config"]  # in flight: taken up with its number and seed
    assert [record["state"] for record in after] == ["complete"] * 4
    assert "trial 1 started" not in killed.printed
    assert not (killed.home / "results" / "killed" / ".tune").exists()


def test_a_study_finds_the_same_when_killed_with_and_without_the_store_and_on_any_number_of_cpus(killed, undisturbed):
    code, printed = call(killed.home, *GRID, "--trials", "4", "--name", "again", "--concurrency", MOST)
    assert code == 0, printed
    folder = killed.home / "results"
    found = {"killed": folder / "killed", "again": folder / "again", "without": undisturbed}
    tables = {name: pd.read_csv(path / "trials.csv") for name, path in found.items()}
    costs = ["started", "ended", "seconds", "seconds_reused", "epochs_trained", "epochs_reused"]
    for name in ("again", "without"):
        pd.testing.assert_frame_equal(
            tables["killed"].drop(columns=costs), tables[name].drop(columns=costs), check_exact=True
        )
    epochs = {name: (table["epochs_trained"].sum(), table["epochs_reused"].sum()) for name, table in tables.items()}
    assert epochs["without"][1] == epochs["again"][0] == 0
    assert epochs["killed"][1] > 0
    assert sum(epochs["killed"]) == epochs["without"][0] == epochs["again"][1]
    assert f"{epochs['killed'][1]} (" in (folder / "killed" / "summary.md").read_text()


def test_kills_of_a_worker_and_of_ray_lose_no_record_and_change_no_trial(tmp_path, undisturbed):
    (tmp_path / "space.yaml").write_text(SPACE)
    scene, count, draw = (
        Scene(tmp_path, (*SMALL, "--concurrency", "1"), waits_s=(0.3, 1.0), apart=True),
        Count(),
        random.Random(0),
    )
    kinds = (WORKER, RAYLET)
    repeat(scene, table(undisturbed), kinds, lambda left: disturbed(scene, left, draw, count, print), count, emit=print)
    assert count.wrong == []
    assert count.kills.total() == len(kinds)
    assert count.studies >= 1
    assert count.kept > 0


@pytest.mark.parametrize(("number", "complete"), [(signal.SIGTERM, 1), (signal.SIGINT, 0)])
def test_a_signal_ends_it_cleanly_with_75_and_the_command_to_resume(tmp_path, number, complete):
    home = furnished(tmp_path)
    with start(home, *GRID, "--trials", "50", "--name", "x", *ONE_AT_A_TIME) as driver:
        until(driver, f"trial {complete + 1} started")
        processes = below(driver.pid)
        began = time.monotonic()
        os.killpg(driver.pid, number)  # as Ctrl-C in a terminal and a batch system do
        printed = driver.communicate(timeout=120)[0]
        assert driver.returncode == 75
        assert time.monotonic() - began < 20  # Ray alone would take 60
    assert gone(processes)
    assert "python -m study.run --resume --name x" in printed
    assert "Traceback" not in printed
    states = [record["state"] for record in records(home, "x")]
    assert states[:complete] == ["complete"] * complete
    assert set(states) <= {"complete", "running"}
    assert len(pd.read_csv(home / "results" / "x" / "trials.csv")) == len(states)
