"""Faults of a running study, with a real Ray and real training: what it runs on is killed, stopped or removed."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from study.study import LOST, STALLED
from tests.faults.table import Fault
from tests.run_helpers import ONE_AT_A_TIME, SMALL, children, furnished, gone, records, start, until

DETECTED_S = 30.0  # promised are 90
SOON_DEAD = {  # a raylet that does not answer counts as dead after 3 s, not 60
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
STUDY = (*SMALL, "--space", "four.yaml", "--name", "x", *ONE_AT_A_TIME)


def wait_for(found: Callable[[], object], within_s: float = 60.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + within_s
    while not found():
        assert time.monotonic() < end, "it is never so"
        time.sleep(0.05)


def process_of(driver: "subprocess.Popen[str]", word: str) -> int:
    """The process below a driver whose command has a word, once there is one."""
    found: list[int] = []

    def look() -> list[int]:
        found[:] = [pid for pid, command in children(driver.pid) if word in command.split("\0")[0]]
        return found

    wait_for(look)
    return found[0]


def ray_folder(driver: "subprocess.Popen[str]") -> Path:
    """The folder of a driver's Ray."""
    command = next(command for _, command in children(driver.pid) if "cleanup.py" in command)
    return Path(command.rstrip("\0").rsplit("\0", 1)[-1])


def ends_with_tables(driver: "subprocess.Popen[str]", home: Path, began: float) -> str:
    """A study is interrupted in time, with tables and the command to resume; what it printed."""
    printed = driver.communicate(timeout=120)[0]
    assert driver.returncode == 75, printed
    assert time.monotonic() - began < DETECTED_S
    assert "python -m study.run --resume --name x" in printed
    assert "Traceback" not in printed
    folder = home / "results" / "x"
    assert (folder / "resume.txt").read_text().startswith("python -m study.run --resume --name x")
    assert set(pd.read_csv(folder / "trials.csv")["state"]) <= {"complete", "running"}
    return printed


def struck(word: str, sign: signal.Signals, folder: Path) -> None:
    """A part of Ray is killed or stopped in mid-trial; and Tune's folder is a link to somebody's documents."""
    home = furnished(folder)
    (documents := folder / "documents").mkdir()
    (documents / "thesis").write_text("mine")
    (home / "results" / "x").mkdir(parents=True)
    (home / "results" / "x" / ".tune").symlink_to(documents)
    with start(home, *STUDY, "--trials", "50", **SOON_DEAD) as driver:
        until(driver, "trial 2 started")
        own = ray_folder(driver)
        assert stat.S_IMODE(own.stat().st_mode) == 0o700
        processes = [pid for pid, _ in children(driver.pid)]
        began = time.monotonic()
        os.kill(process_of(driver, word), sign)
        printed = ends_with_tables(driver, home, began)
        assert "Ray is gone" in printed
    assert gone(processes)
    assert not own.exists()
    assert (documents / "thesis").read_text() == "mine"
    assert len(list(documents.iterdir())) == 1


def lost_workers(folder: Path) -> None:
    """A worker is killed, another stops without dying; and the store cannot be written."""
    home = furnished(folder)
    (home / "four.yaml").write_text("epochs: 1\ntrain_examples: [300, 400]\ntest_examples: 50\n")  # not over at once
    words = ("--trials", "2", "--stall-minutes", "0.2", "--store", str(home / "one.yaml" / "x"))
    with start(home, *STUDY, *words) as driver:
        lines = until(driver, "trial 1 started")
        os.kill(process_of(driver, "ray::ImplicitFunc"), signal.SIGKILL)
        lines += until(driver, "trial 3 started")
        os.kill(process_of(driver, "ray::ImplicitFunc.train"), signal.SIGSTOP)
        printed = "".join(lines) + driver.communicate(timeout=120)[0]
        assert driver.returncode == 0, printed
    found = records(home, "x")
    assert [record["state"] for record in found] == ["failed", "complete"] * 2
    for failed, again in (found[:2], found[2:]):
        assert failed["config"] == again["config"]
    assert found[0]["error"] == LOST
    assert found[2]["error"].startswith(STALLED)
    assert f"trial 1 failed: {LOST}" in printed
    assert LOST in (home / "results" / "x" / "summary.md").read_text()
    assert printed.count("warning: the store cannot be written") == 1


def signal_while_ray_starts(delay_s: float, folder: Path) -> None:
    """SIGTERM comes while Ray starts."""
    home = furnished(folder)
    with start(home, *STUDY, "--trials", "50") as driver:
        until(driver, "  records in")
        time.sleep(delay_s)
        processes = [pid for pid, _ in children(driver.pid)]
        began = time.monotonic()
        driver.send_signal(signal.SIGTERM)
        ends_with_tables(driver, home, began)
    assert gone(processes)


def removed(folder: Path) -> None:
    """Tune's folder is removed, nobody reads what is printed, without ±, and the shell has settings of its own."""
    home = furnished(folder)
    ours = {"RAY_AUTH_MODE": "token", "HOME": str(folder), "TUNE_RESULT_DIR": "x", "PYTHONIOENCODING": "ascii"}
    with start(home, *STUDY, "--trials", "3", **ours) as driver:
        until(driver, "trial 2 started")
        shutil.rmtree(home / "results" / "x" / ".tune")
        driver.stdout.close()
        assert driver.wait(120) == 0
    assert [record["state"] for record in records(home, "x")] == ["complete"] * 3
    assert {path.name for path in (home / "results" / "x").iterdir()} >= {"trials.csv", "summary.md", "best.json"}
    with contextlib.suppress(FileNotFoundError):
        assert "auth_token" not in os.listdir(folder / ".ray")


IN_TIME = f"within {DETECTED_S:.0f} s tables, the command to resume, 75; nothing of it is left"
FAULTS = (
    Fault("B8", "the raylet is killed", "study.run", IN_TIME, partial(struck, "raylet/raylet", signal.SIGKILL)),
    Fault("B8", "the raylet is stopped", "study.run", IN_TIME, partial(struck, "raylet/raylet", signal.SIGSTOP)),
    Fault("B8", "the GCS is killed", "study.run", IN_TIME, partial(struck, "gcs_server", signal.SIGKILL)),
    Fault("B8", "workers are killed and stopped", "study.run", "their trials fail and are tried again", lost_workers),
    Fault("C12", "SIGTERM while Ray starts", "study.run", IN_TIME, partial(signal_while_ray_starts, 0.7)),
    Fault("C12", "Tune's folder is removed in mid-run", "study.run", "all trials, tables and 0", removed),
)
