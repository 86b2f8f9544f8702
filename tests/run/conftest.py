"""A working folder, and the command in it."""

import pytest
import torch

from study.run import main
from tests.run_helpers import furnished


@pytest.fixture
def home(tmp_path):
    return furnished(tmp_path)


@pytest.fixture
def command(monkeypatch, capsys):
    """The command in a folder, in this process: its exit code and what was printed."""

    def run(folder, *words):
        monkeypatch.chdir(folder)
        try:
            code = main(words)
        except SystemExit as ended:
            code = ended.code
        finally:
            torch.set_num_threads(1)
        return code, "".join(capsys.readouterr())

    return run
