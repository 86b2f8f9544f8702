"""Nothing that Windows or macOS lack is needed to train a mixture, and to reproduce a trial of a study."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import moe
from moe.config import Config
from moe.machine import memory
from study.commands import COMMANDS

ROOT = Path(__file__).parent.parent
SMALL = ("--dataset", "shapes", "--train-examples", "50", "--test-examples", "50")
A_STUDY = """
import sys
from pathlib import Path
from moe import Config, run
from moe.data import load
from study.folder import Folder
from study.machine import identity, versions
from study.space import parse
from study.study import COMPLETE, Record, Run, Study, now

data, folder = load("shapes"), Folder(Path(sys.argv[1]))
study = Study(
    name="s", space=parse("one", {"train_examples": 50, "test_examples": 50}), objective="gain", sampler="grid", seed=0,
    protocol="holdout", precision="float32", dataset="shapes", data=data.fingerprint, source=data.source,
    data_folder=None, trials=1,
)
began = now()
with folder.locked():
    assert (folder.path / ".lock").exists()
    folder.write_study(study, Run(started=began, command="", commit=None, versions=versions(), store="none"))
    record = Record(trial=1, replicate=0, config=study.config({}, 0), started=began)
    folder.write_record(record)
    folder.write_record(record.ended_as(COMPLETE, result=run(record.config, data)))
print(identity()["host"])
"""


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """Run Python without what other systems lack, and without Ray, which has versions of its own for them."""
    home = tmp_path_factory.mktemp("elsewhere")
    (home / "without" / "ray").mkdir(parents=True)
    (home / "without" / "ray" / "__init__.py").write_text("raise SystemExit('Ray was imported')")
    path = os.pathsep.join(map(str, (ROOT / "tests" / "other_systems", home / "without", ROOT)))
    places = {"MOE_STORE": str(home / "stages")}

    def call(*words):
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            capture_output=True,
            text=True,
            env={**os.environ, **places, "PYTHONPATH": path},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def test_what_they_lack_is_missing_there(call):
    code = "import os, signal, sys; print(hasattr(signal, 'SIGHUP') or hasattr(os, 'getuid'))\ntry: import fcntl\n"
    assert call("-c", f"{code}except ImportError: print('no fcntl')").split("\n")[:2] == ["False", "no fcntl"]


def test_every_command_has_its_help(call):
    for module, _, _ in COMMANDS.values():
        assert "--help" in call("-m", module, "--help"), module


def test_a_mixture_is_trained_and_stored(call):  # torch is loaded for it, as for the next ones
    assert "mixture - baseline" in call("-m", "moe", *SMALL)
    assert "baseline" in call("-m", "moe.store", "ls")


def test_a_folder_is_locked_and_its_trial_reproduced(call, tmp_path):
    call("-c", A_STUDY, tmp_path / "s")
    assert not (tmp_path / "s" / ".lock").exists()
    assert "identical: all" in call("-m", "study.reproduce", tmp_path / "s")


def test_a_system_that_does_not_say_how_much_memory_it_has_sets_no_limit(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    assert memory(tmp_path) == sys.maxsize


def test_the_gpu_of_a_mac_is_refused_by_name(data):
    with pytest.raises(ValueError, match="device is mps; expected cpu or cuda"):
        moe.run(Config(), data, devices=[torch.device("mps")])
