"""What this machine has, as its system and its container say."""

import os
from pathlib import Path

import pytest

from study import machine


def test_memory_is_that_of_the_machine_without_a_limit(monkeypatch):
    present = machine.memory()
    assert present > 2**29
    monkeypatch.setattr(Path, "read_text", lambda self: "max\n")
    assert machine.memory() >= present


def test_memory_is_no_more_than_the_limit_of_the_container(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda self: "1073741824\n")
    assert machine.memory() == 2**30


@pytest.mark.parametrize(("visible", "count"), [(None, 2), ("0", 1), ("0,1", 2), ("", 0), ("-1", 0)])
def test_gpus_that_are_hidden_do_not_count(monkeypatch, tmp_path, visible, count):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 'GPU 0: H200 (UUID: a)'\necho 'GPU 1: H200 (UUID: b)'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == count
