"""A place for stores."""

import pytest

from moe.store.files import Local


@pytest.fixture
def place(tmp_path):
    return Local(tmp_path / "store")
