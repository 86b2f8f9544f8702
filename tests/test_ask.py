"""`python -m study.ask`."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from study.ask import main
from study.folder import Folder
from study.space import PRESETS
from tests.analyze_helpers import search, write


@pytest.fixture
def ask(monkeypatch, capsys):
    """The command in this process: its exit code, its output and its errors."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["study.ask", *map(str, words)])
        try:
            code = main()
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return call


def test_any_config_of_the_space_has_an_estimate_and_others_are_refused(tmp_path, ask):
    folder = write(tmp_path / "s", search(30), space=PRESETS["notebook"]).path
    code, printed, error = ask(folder, "epochs=6", "--no-store", "use_large_experts=true", "train_examples=1000")
    assert code == 0, error
    config, estimate, cost = printed.splitlines()
    assert config.startswith("epochs 6, train_examples 1000, use_large_experts True")
    assert estimate.startswith("estimated gain +")
    assert cost.startswith("one more trial, with seed 0, takes 30 epochs at most; 0 of them are stored; the others")
    for field, word in (("epochs=5", "epochs is 5"), ("epoch=4", "epoch"), ("epochs", "epochs=6")):
        code, _, error = ask(folder, field)
        assert (code, len(error.splitlines())) == (2, 1)
        assert word in error
    assert ask(tmp_path)[0] == 4


def test_a_value_that_is_none_or_is_not_the_studys_is_refused_in_a_sentence(tmp_path, ask):
    folder = write(tmp_path / "s", search(30), space=PRESETS["notebook"]).path
    for field, words in (
        ("epochs=[", "is 'epochs=[': cannot be read as YAML"),
        ("epochs=" + "[" * 5000, "more than 4 levels"),
        ("epochs=[6]", "list"),
        ("epochs=2024-13-45", "expected numbers"),
        ("epochs=!!int ''", "expected a decimal number"),
        ("learning_rate=!!float ''", "learning_rate has ''; expected a number"),
        ("epochs=!!timestamp abc", "expected numbers"),
        ("use_large_experts=!!bool maybe", "expected true or false"),
        ("epochs=010", "expected a decimal number"),
        ("learning_rate=0:0.001", "of base 60"),
        ("self=1", "expected a field of a config"),
        ("learning_rate=1e-2", "learning_rate is 0.01; expected 0.001, with which study s trains every config"),
        ("batch_size=100", "batch_size is 100; expected 50, with which study s trains every config"),
    ):
        code, _, error = ask(folder, field)
        assert (code, len(error.splitlines())) == (2, 1), error
        assert words in error
    code, _, error = ask(folder, "epochs=6", "epochs=8")
    assert (code, error) == (2, "python -m study.ask: epochs is given twice; expected each field once\n")
    assert ask(folder, "learning_rate=1e-3", "seed=7")[0] == 0


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a study of one trial of one epoch, which a worker without Ray has run."""
    home = tmp_path_factory.mktemp("ask")
    (home / "two.yaml").write_text("epochs: [1, 2]\ntrain_examples: 50\ntest_examples: 50\n")
    trial = ("--dataset", "shapes", "--space", home / "two.yaml", "--sampler", "grid", "--trials", "1", "--refine", "0")
    done = at(home, *trial, "--name", "s", "--results", home, "--worker", module="study.run")
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def at(home, *words, module="study.ask"):
    places = {"MOE_STORE": str(home / "stages")}
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **places})


def test_run_adds_one_more_trial_and_prints_the_new_estimate(home):
    done = at(home, home / "s", "epochs=2", "--run")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-2]) == ("epochs 2 (never tried)", "epochs 2 (1 trial)")
    # the baseline has two epochs already: it is the reference
    assert lines[2].startswith("one more trial, with seed 0, takes 10 epochs at most; 5 of them are stored; the others")
    record = json.loads((home / "s" / "trials" / "0002.json").read_text())
    assert (record["phase"], record["state"], record["config"]["epochs"]) == ("ask", "complete", 2)
    assert record["result"]["totals"]["epochs_reused"] == 5
    assert pd.read_csv(home / "s" / "trials.csv")["phase"].tolist() == ["search", "ask"]
    assert "with seed 1, takes 10 epochs at most; 0 of them" in at(home, home / "s", "epochs=2").stdout


def test_run_is_refused_while_another_driver_holds_the_folder(home):
    before = sorted((home / "s" / "trials").iterdir())
    with Folder(home / "s").locked():
        done = at(home, home / "s", "epochs=1", "--run")
    assert (done.returncode, "in use by another driver" in done.stderr) == (4, True)
    assert sorted((home / "s" / "trials").iterdir()) == before
