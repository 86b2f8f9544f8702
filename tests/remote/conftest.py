"""A place for copies."""

import pytest

from study import remote
from tests.remote.helpers import Place


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name in ("LOOK_S", "REST_S"):
        monkeypatch.setattr(remote, name, 0.05)
    return Place(tmp_path / "there")
