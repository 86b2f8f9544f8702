"""A store in which one config was trained, and empty places."""

import os
import shutil
import uuid
from pathlib import Path

import pytest

from moe import run
from moe.store.location import place_at
from moe.store.store import Store
from tests.store_maintenance.helpers import SMALL


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A store in which one config has been trained, and its result."""
    folder = tmp_path_factory.mktemp("trained")
    with Store(str(folder)) as store:
        return folder, run(SMALL, data, store)


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of it, of links: what is changed is written anew."""
    return Path(shutil.copytree(trained[0], tmp_path / "store", copy_function=os.link))


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    """An empty place of each kind."""
    return place_at(str(tmp_path / "place") if request.param == "local" else f"memory://{uuid.uuid4().hex}")
