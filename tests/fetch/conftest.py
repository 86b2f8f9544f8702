"""A study's folder on the cluster, and the results folder here."""

import pytest

from study.folder import Folder
from tests.fetch.helpers import a_run
from tests.study_helpers import a_record, a_study


@pytest.fixture
def there(tmp_path):
    """A study's folder on the cluster."""
    folder = Folder(tmp_path / "there" / "x")
    folder.trials.mkdir(parents=True)
    folder.write_study(a_study(name="x"), a_run(1))
    folder.write_record(a_record(1))
    others = {"trials.csv": b"trial\n1\n", "figures/gain.png": bytes(range(256)), ".lock": b"", ".tune/state": b"0",
              "trials/.partial-1": b"{", "weights.pt": b"0"}  # fmt: skip
    for name, content in others.items():
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).write_bytes(content)
    return folder


@pytest.fixture
def here(tmp_path):
    return Folder(tmp_path / "here" / "x")
