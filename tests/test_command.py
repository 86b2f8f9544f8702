"""`python -m moe`: what it prints and writes, its exit codes, and what it refuses before it imports torch."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from moe.result import Result
from moe.schema import decode
from tests.cli_helpers import outcomes, without

SMALL = ("--dataset", "shapes", "--train-examples", "100", "--test-examples", "50")


def call(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "moe", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory):
    """A path on which torch ends the program that imports it."""
    return without(tmp_path_factory.mktemp("traps"), "torch")["PYTHONPATH"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """A finished command, and the JSON file and the store that it wrote."""
    folder = tmp_path_factory.mktemp("trained")
    done = call(*SMALL, "--json", folder / "out.json", "--store", folder / "stages")
    assert done.returncode == 0, done.stderr
    return done, folder


def test_it_prints_its_data_first(trained):
    assert trained[0].stdout.startswith("Data: shapes")


def test_it_writes_its_result_as_json_and_prints_the_same_as_a_table(trained):
    done, folder = trained
    result = decode(Result, (folder / "out.json").read_text())
    assert result.config.train_examples == 100
    assert str(result) in done.stdout


def test_a_second_run_reuses_every_stage(trained):
    folder = trained[1]
    done = call(*SMALL, "--json", folder / "again.json", "--store", folder / "stages")
    assert done.returncode == 0, done.stderr
    totals = decode(Result, (folder / "again.json").read_text()).totals
    assert (totals.epochs_trained, totals.epochs_reused) == (0, 5)


WRONG = [
    ("--epochs", "0", "1 to"),
    ("--epochs", "many", "whole number"),
    ("--learning-rate", "nan", "above 0"),
    ("--batch-size", "6000", "1 to 5000"),
    ("--protocol", "x", "holdout"),
    ("--precision", "float16", "bfloat16"),
    ("--dataset", "mnist", "cifar10"),
    ("--store", __file__, "a folder or a URL"),
    ("--json", "nowhere/out.json", "folder that can be written"),
    ("--describe", "--json=out.json", "expected it without"),
]


@pytest.fixture(scope="module")
def refusals(without_torch):
    return outcomes("moe.__main__", [row[:2] for row in WRONG], {"PYTHONPATH": without_torch})


@pytest.mark.parametrize(("option", "value", "valid"), WRONG)
def test_a_wrong_option_is_one_sentence_and_exit_code_2_without_torch(option, value, valid, refusals):
    done = refusals[option, value]
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    for part in (option, value, valid):
        assert part in done.err


def test_a_refusal_takes_less_than_two_seconds(refusals):
    assert max(done.seconds for done in refusals.values()) < 2


def test_the_version_is_printed_without_torch(without_torch):
    done = call("--version", PYTHONPATH=without_torch)
    assert (done.returncode, done.stdout) == (0, f"moe-study {version('moe-study')}\n")


def test_missing_data_are_one_sentence_and_exit_code_4(tmp_path):
    done = call("--data", tmp_path)
    assert done.returncode == 4
    assert str(tmp_path) in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [SMALL, ("predict", "m.safetensors", "a.png")])
def test_ctrl_c_while_torch_loads_is_silent(arguments, tmp_path):
    for name in ("torch", "safetensors"):
        (tmp_path / f"{name}.py").write_text("raise KeyboardInterrupt")
    done = call(*arguments, PYTHONPATH=f"{tmp_path}:{Path.cwd()}")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
