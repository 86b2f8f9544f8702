"""`python -m study.ask`."""

import sys

import pytest

from study.ask import main
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
    code, printed, error = ask(folder, "epochs=6", "use_large_experts=true", "train_examples=1000")
    assert code == 0, error
    config, estimate = printed.splitlines()
    assert config.startswith("epochs 6, train_examples 1000, use_large_experts True")
    assert estimate.startswith("estimated gain +")
    for field, word in (("epochs=5", "epochs is 5"), ("epoch=4", "epoch"), ("epochs", "epochs=6")):
        code, _, error = ask(folder, field)
        assert (code, len(error.splitlines())) == (2, 1)
        assert word in error
    assert ask(tmp_path)[0] == 4


def test_a_value_that_is_none_or_is_not_the_studys_is_refused_in_a_sentence(tmp_path, ask):
    folder = write(tmp_path / "s", search(30), space=PRESETS["notebook"]).path
    for field, words in (
        ("epochs=[", "is 'epochs=['; expected as epochs=6"),
        ("epochs=2024-13-45", "expected as epochs=6"),
        ("learning_rate=1e-2", "learning_rate is 0.01; expected 0.001, with which study s trains every config"),
        ("batch_size=100", "batch_size is 100; expected 50, with which study s trains every config"),
    ):
        code, _, error = ask(folder, field)
        assert (code, len(error.splitlines())) == (2, 1), error
        assert words in error
    assert ask(folder, "learning_rate=1e-3", "seed=7")[0] == 0


def test_ctrl_c_has_the_exit_code_of_a_command_that_cannot_be_resumed(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("study.results.load", interrupt)
    monkeypatch.setattr(sys, "argv", ["study.ask", str(tmp_path)])
    assert main() == 130
