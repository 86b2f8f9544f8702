"""A study that was trained, and the command on it."""

import io
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from moe import run
from moe.data import load
from study import machine
from study.folder import Folder
from study.reproduce.__main__ import main
from study.study import COMPLETE, FAILED, Record, Study
from tests.reproduce.helpers import (
    CPU,
    SPACE,
    Outcome,
    a_run,
    config,
    month,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of two complete trials, a failed one and a running one; not to be changed."""
    data = load("shapes")
    folder = Folder(tmp_path_factory.mktemp("results") / "tiny")
    folder.trials.mkdir(parents=True)
    study = Study(
        name="tiny",
        space=SPACE,
        objective="gain",
        sampler="grid",
        seed=0,
        protocol="holdout",
        precision="float32",
        dataset="shapes",
        data=data.fingerprint,
        source=data.source,
        data_folder=None,
        trials=2,
    )
    folder.write_study(study, a_run(month(1), "a" * 40, machine.versions()))
    folder.write_study(study, a_run(month(5), "b" * 40, {"torch": "9.9"}))
    for number, (epochs, replicate) in enumerate([(1, 0), (2, 0), (1, 1), (1, 2)], 1):
        choices = config(epochs, seed=replicate)
        record = Record(trial=number, replicate=replicate, config=choices, started=month(3))
        if number <= 2:
            record = record.ended_as(COMPLETE, result=run(choices, data, devices=[CPU]))
        if number == 3:
            record = record.ended_as(FAILED, error="the loss is nan")
        folder.write_record(record)
    return folder.path


@pytest.fixture
def folder(made, tmp_path):
    """The same study, to be edited."""
    return Path(shutil.copytree(made, tmp_path / "tiny"))


@pytest.fixture
def command(capsys):
    """Runs the command in this process."""

    def call(*arguments):
        try:
            code = main([str(word) for word in arguments])
        except SystemExit as end:
            code = end.code
        finally:
            torch.set_num_threads(1)
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("saved") / "mixture.safetensors"


@pytest.fixture(scope="module")
def outcome(made, file):
    """Of the second trial."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(made), "--trial", "2", "--save", str(file)])
    return Outcome(code, out.getvalue(), err.getvalue())
