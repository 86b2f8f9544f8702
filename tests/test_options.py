import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study import machine
from study.options import parse
from study.search.resources import Node, Resources, allot

WRONG = [
    ("--trials", "0", "1 to 100000"),
    ("--trials", "-1", "1 to 100000"),
    ("--trials", "1e9", "whole number"),
    ("--name", "..", "letters"),
    ("--name", "a/b", "letters"),
    ("--name", ".hidden", "letters"),
    ("--name", "x" * 300, "1 to 80"),
    ("--name", "two words", "letters"),
    ("--gpus-per-trial", "1.5", "a fraction from 0.01 to 1 or a whole number"),
    ("--gpus-per-trial", "-1", "a fraction from 0.01"),
    ("--gpus-per-trial", "nan", "a fraction from 0.01"),
    ("--gpus-per-trial", "512", "GPUs that there are"),
    ("--cpus-per-trial", "4096", "CPUs that there are"),
    ("--cpus-per-trial", "-2", "1 to"),
    ("--cpus-per-trial", "0", "1 to"),
    ("--concurrency", "0", "1 to"),
    ("--concurrency", "4096", "places"),
    ("--sampler", "annealing", "tpe"),
    ("--space", "everything", "notebook, full"),
    ("--objective", "loss", "gain"),
    ("--protocol", "honest", "holdout"),
    ("--precision", "float16", "bfloat16"),
    ("--dataset", "mnist", "cifar10"),
    ("--seed", "-1", "0 to"),
    ("--hours", "0", "above 0"),
    ("--hours", "nan", "above 0"),
    ("--address", "head", "HOST:PORT"),
]


def call(*arguments, cwd=None, **environment):
    settings = {"env": {**os.environ, **environment}, "cwd": cwd, "check": False}
    return subprocess.run([sys.executable, "-m", "study.run", *arguments], capture_output=True, text=True, **settings)


@pytest.fixture
def without_torch_or_ray(tmp_path):
    """A path on which both end the program that imports them."""
    for name in ("torch", "ray"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    return f"{tmp_path}:{Path.cwd()}"


@pytest.mark.parametrize(("option", "value", "valid"), WRONG)
def test_a_wrong_option_is_one_sentence_and_exit_code_2_without_torch_or_ray(
    option, value, valid, without_torch_or_ray
):
    done = call(option, value, PYTHONPATH=without_torch_or_ray)
    assert done.returncode == 2
    assert done.stderr.startswith("python -m study.run: ")
    assert len(done.stderr.splitlines()) == 1
    for part in (option, value, valid):
        assert part in done.stderr


def test_a_refusal_takes_less_than_two_seconds(without_torch_or_ray):
    times = []
    for _ in range(3):
        began = time.monotonic()
        assert call("--trials", "0", PYTHONPATH=without_torch_or_ray).returncode == 2
        times.append(time.monotonic() - began)
    assert min(times) < 2


def test_a_space_with_a_wrong_value_is_refused_with_file_field_and_value(tmp_path, without_torch_or_ray):
    (tmp_path / "mine.yaml").write_text("epochs: [1, 0]\n")
    done = call("--space", str(tmp_path / "mine.yaml"), PYTHONPATH=without_torch_or_ray)
    assert done.returncode == 2
    for part in ("--space", "mine.yaml", "epochs is 0", "1 to"):
        assert part in done.stderr


def test_a_data_folder_that_does_not_exist_is_exit_code_4_at_once(tmp_path, without_torch_or_ray):
    done = call("--data", "nowhere", cwd=tmp_path, PYTHONPATH=without_torch_or_ray)
    assert done.returncode == 4
    assert "nowhere" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", [None, "photo.png", "cifar-100-python.tar.gz"])
def test_a_data_folder_without_a_file_of_cifar_10_is_exit_code_4_at_once(tmp_path, without_torch_or_ray, name):
    folder = tmp_path / "data"
    folder.mkdir()
    if name:
        (folder / name).write_text("")
    done = call("--data", str(folder), PYTHONPATH=without_torch_or_ray)
    assert done.returncode == 4
    assert str(folder) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_cifar10_dir_is_checked_as_data_is(tmp_path, without_torch_or_ray):
    done = call(PYTHONPATH=without_torch_or_ray, CIFAR10_DIR=str(tmp_path / "nowhere"))
    assert done.returncode == 4
    assert "nowhere" in done.stderr


def test_the_version_is_printed():
    done = call("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "moe-study")


def test_a_folder_of_data_for_drawn_shapes_is_refused():
    done = call("--dataset", "shapes", "--data", "somewhere")
    assert done.returncode == 2
    assert "--data is somewhere" in done.stderr


@pytest.mark.parametrize("value", ["file", "warp://x"])
def test_a_wrong_store_is_refused(tmp_path, without_torch_or_ray, value):
    (tmp_path / "file").write_text("")
    done = call("--store", value, cwd=tmp_path, PYTHONPATH=without_torch_or_ray)
    assert done.returncode == 2
    assert f"--store is {value}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_store_in_the_environment_is_refused(tmp_path, without_torch_or_ray):
    (tmp_path / "file").write_text("")
    done = call(cwd=tmp_path, PYTHONPATH=without_torch_or_ray, MOE_STORE="file")
    assert done.returncode == 2
    assert "MOE_STORE is file" in done.stderr


def options(*arguments):
    return parse(list(arguments))


@pytest.mark.parametrize(
    ("arguments", "cpus", "gpus", "cpus_per_trial", "gpus_per_trial", "concurrency"),
    [
        ((), 2, 0, 1, 0, 2),
        ((), 8, 0, 1, 0, 8),
        ((), 16, 0, 2, 0, 8),
        ((), 64, 0, 4, 0, 16),
        ((), 1, 0, 1, 0, 1),
        (("--concurrency", "2"), 2, 0, 1, 0, 2),
        (("--cpus-per-trial", "1"), 2, 0, 1, 0, 2),
        ((), 16, 4, 4, 1, 4),
        ((), 2, 8, 1, 1, 2),
        (("--gpus-per-trial", "0.5"), 16, 2, 4, 0.5, 4),
        (("--gpus-per-trial", "0.4"), 16, 2, 4, 0.4, 4),
        (("--gpus-per-trial", "2"), 16, 4, 4, 2, 2),
        (("--gpus-per-trial", "0"), 16, 4, 2, 0, 8),
        (("--concurrency", "1"), 16, 0, 4, 0, 1),
    ],
)
def test_a_trial_gets_its_share_of_the_machine(arguments, cpus, gpus, cpus_per_trial, gpus_per_trial, concurrency):
    found = allot(options(*arguments), [Node(cpus, gpus)])
    assert (found.cpus_per_trial, found.gpus_per_trial, found.concurrency) == (
        cpus_per_trial,
        gpus_per_trial,
        concurrency,
    )


@pytest.mark.parametrize(
    ("arguments", "nodes", "of", "cpus_per_trial", "concurrency"),
    [
        ((), 16, 1, 1, 16),
        ((), 16, 3, 3, 16),
        ((), 16, 8, 4, 32),
        ((), 6, 3, 3, 6),
        (("--cpus-per-trial", "2"), 6, 3, 2, 6),
        (("--concurrency", "1"), 4, 4, 4, 1),
    ],
)
def test_a_trial_gets_no_more_cpus_than_a_node_of_the_cluster_has(arguments, nodes, of, cpus_per_trial, concurrency):
    found = allot(options(*arguments), [Node(of)] * nodes)
    assert (found.cpus_per_trial, found.concurrency) == (cpus_per_trial, concurrency)


def test_gpus_of_different_nodes_are_not_added_up(capsys):
    nodes = [Node(8, 2), Node(8, 1), Node(64)]
    assert allot(options(), nodes) == Resources(cpus_per_trial=4, gpus_per_trial=1, concurrency=3)
    assert allot(options("--gpus-per-trial", "2"), nodes).concurrency == 1
    with pytest.raises(SystemExit):
        allot(options("--gpus-per-trial", "3"), nodes)
    assert "--gpus-per-trial is 3; expected at most 2, the GPUs of the largest node" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "gigabytes", "cpus_per_trial", "concurrency"),
    [((), 64, 1, 8), ((), 6.5, 2, 4), ((), 1, 4, 1), (("--concurrency", "8"), 6.5, 1, 8)],
)
def test_no_more_trials_run_by_default_than_have_memory(arguments, gigabytes, cpus_per_trial, concurrency):
    found = allot(options(*arguments), [Node(8, 0, int(gigabytes * 2**30))])
    assert (found.cpus_per_trial, found.concurrency) == (cpus_per_trial, concurrency)


def test_memory_is_what_a_container_may_use(monkeypatch):
    present = machine.memory()
    assert present > 2**29
    monkeypatch.setattr(Path, "read_text", lambda self: "1073741824\n")
    assert machine.memory() == 2**30
    monkeypatch.setattr(Path, "read_text", lambda self: "max\n")
    assert machine.memory() == present


def test_the_gpus_that_are_hidden_do_not_count(monkeypatch, tmp_path):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 'GPU 0: H200 (UUID: a)'\necho 'GPU 1: H200 (UUID: b)'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for visible, count in ((None, 2), ("0", 1), ("0,1", 2), ("", 0), ("-1", 0)):
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert machine.gpus() == count
