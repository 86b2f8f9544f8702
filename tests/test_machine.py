"""What this machine has; the faults of it are rows of `tests.faults`."""

from pathlib import Path

from moe import machine as limits
from study import machine


def test_a_limit_of_nothing_is_what_the_machine_has(tmp_path):
    assert limits.memory(tmp_path) > 2**29
    assert limits.cpus(tmp_path) >= 1


def test_the_commit_is_that_of_this_checkout():
    assert (machine.commit() is not None) == (Path(__file__).parents[1] / ".git").exists()
