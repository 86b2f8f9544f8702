"""A confirmation in this process, and studies for one under Ray."""

import shutil
from dataclasses import replace

import pytest

from moe.data import load
from tests.confirm.helpers import a_tiny_study, without_ray


@pytest.fixture
def here(monkeypatch, data):
    """Training in this process, one seed after the other."""
    few = replace(data, test_images=data.test_images[:100], test_labels=data.test_labels[:100])
    return without_ray(monkeypatch, few)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with two studies of the same trial on the built-in shapes."""
    home = tmp_path_factory.mktemp("confirm")
    choices = {"train_examples": 50, "test_examples": 50}
    study = a_tiny_study(home, load("shapes").fingerprint, **choices)
    for name in ("straight", "killed"):
        shutil.copytree(study, home / "results" / name)
    return home
