"""What this machine has; the faults of it are rows of `tests.faults`."""

import platform
from pathlib import Path

from moe import machine as limits
from study import machine


def test_a_limit_of_nothing_is_what_the_machine_has(tmp_path):
    assert limits.memory(tmp_path) > 2**29
    assert limits.cpus(tmp_path) >= 1


def test_the_commit_is_that_of_this_checkout():
    assert (machine.commit() is not None) == (Path(__file__).parents[1] / ".git").exists()


def test_the_identity_of_a_machine_has_its_host_system_and_cpu():
    found = machine.identity()
    assert found["host"] == platform.node()
    assert "Linux" in found["os"]
    assert found["cpu"]
    assert machine.versions()["moe-study"]
