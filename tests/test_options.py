import os
import socket
import subprocess
import sys

import pytest

from study.cluster.options import read
from study.definition import define
from study.options import LOG_PACKAGES, parse
from study.reproduce.__main__ import parser as reproduce
from tests.cli_helpers import outcomes, without

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
    ("--gpus-per-trial", "2048", "to 1024"),
    ("--address", "head:65536", "HOST:PORT"),
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


@pytest.fixture(scope="module")
def without_torch_or_ray(tmp_path_factory):
    """A path on which both end the program that imports them."""
    return without(tmp_path_factory.mktemp("traps"), "torch", "ray")["PYTHONPATH"]


@pytest.fixture(scope="module")
def refusals(without_torch_or_ray):
    return outcomes("study.run", [row[:2] for row in WRONG], {"PYTHONPATH": without_torch_or_ray})


@pytest.mark.parametrize(("option", "value", "valid"), WRONG)
def test_a_wrong_option_is_one_sentence_and_exit_code_2_without_torch_or_ray(option, value, valid, refusals):
    done = refusals[option, value]
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("python -m study.run: ")
    assert len(done.err.splitlines()) == 1
    for part in (option, value, valid):
        assert part in done.err


def test_json_without_a_dry_run_is_refused(without_torch_or_ray):
    done = call("--json", PYTHONPATH=without_torch_or_ray)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--json is given without --dry-run; expected both" in done.stderr


def test_a_refusal_takes_less_than_two_seconds(refusals):
    assert max(done.seconds for done in refusals.values()) < 2


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


def test_loggers_are_named_with_commas_and_have_to_be_known(capsys):
    assert parse(["--log", "tensorboard,tensorboard"]).loggers == ("tensorboard",)
    with pytest.raises(SystemExit, match="2"):
        parse(["--log", "tensorboard,neptune"])
    assert "--log is 'tensorboard,neptune'" in capsys.readouterr().err


def test_loggers_have_to_be_installed_where_the_study_runs_not_where_it_is_submitted(capsys, monkeypatch):
    monkeypatch.setitem(LOG_PACKAGES, "wandb", "nobody_has_this")
    words = ["--address", "http://head:8265", "--", "--log", "tensorboard,wandb"]
    submitted = read(words).run
    with pytest.raises(SystemExit, match="2"):
        define(submitted, "")
    expected = f"--log is tensorboard,wandb; expected what is installed on {socket.gethostname()}: pip install"
    assert expected in capsys.readouterr().err


def test_a_leading_tilde_of_a_folder_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse(["--results=~/all"]).studies == tmp_path / "all"
    (tmp_path / "data").mkdir()
    assert reproduce().parse_args(["results/x", "--data=~/data"]).data == tmp_path / "data"
