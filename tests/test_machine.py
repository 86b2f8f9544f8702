"""What this machine has; the faults of it are rows of `tests.faults`."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from moe import machine as limits
from study import machine

ROOT = Path(__file__).parents[1]


def test_a_limit_of_nothing_is_what_the_machine_has(tmp_path):
    assert limits.memory(tmp_path) > 2**29
    assert limits.cpus(tmp_path) >= 1


def test_the_commit_is_that_of_the_checkout_with_a_plus_once_files_are_changed(tmp_path, monkeypatch):
    for room in ("moe", "study"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    assert commit(tmp_path) == "None"
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "moe", "study")
    assert commit(tmp_path) == "None"
    git(tmp_path, "-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "-q", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(tmp_path) == head
    monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))  # as in a hook of another repository
    assert commit(tmp_path) == head
    monkeypatch.delenv("GIT_DIR")
    (tmp_path / "moe/machine.py").write_text("changed")
    assert commit(tmp_path) == head + "+"


def commit(checkout: Path) -> str:
    code = "from study import machine; print(machine.commit())"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def git(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=checkout, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_identity_of_a_machine_has_its_host_system_and_cpu():
    found = machine.identity()
    assert found["host"] == platform.node()
    assert "Linux" in found["os"]
    assert found["cpu"]
    assert machine.versions()["moe-study"]
