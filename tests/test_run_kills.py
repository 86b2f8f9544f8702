"""`python -m study.run` under real kills and signals, and what a study finds whatever happened to it."""

import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from moe.machine import cpus
from tests.run_helpers import ONE_AT_A_TIME, SMALL, below, call, furnished, gone, records, start, until

GRID = (*SMALL, "--space", "four.yaml", "--sampler", "grid")


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


def test_a_study_finds_the_same_when_killed_with_and_without_the_store_and_on_any_number_of_cpus(killed):
    most = str(min(2, cpus()))
    ways = {"without": ("--cpus-per-trial", most, "--concurrency", "1", "--no-store"), "again": ("--concurrency", most)}
    for name, words in ways.items():
        code, printed = call(killed.home, *GRID, "--trials", "4", "--name", name, *words)
        assert code == 0, printed
    folder = killed.home / "results"
    tables = {name: pd.read_csv(folder / name / "trials.csv") for name in ("killed", *ways)}
    costs = ["started", "ended", "seconds", "seconds_reused", "epochs_trained", "epochs_reused"]
    for name in ways:
        pd.testing.assert_frame_equal(
            tables["killed"].drop(columns=costs), tables[name].drop(columns=costs), check_exact=True
        )
    epochs = {name: (table["epochs_trained"].sum(), table["epochs_reused"].sum()) for name, table in tables.items()}
    assert epochs["without"][1] == epochs["again"][0] == 0
    assert epochs["killed"][1] > 0
    assert sum(epochs["killed"]) == epochs["without"][0] == epochs["again"][1]
    assert f"{epochs['killed'][1]} (" in (folder / "killed" / "summary.md").read_text()


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
