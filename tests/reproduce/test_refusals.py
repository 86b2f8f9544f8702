"""What study.reproduce refuses before it trains."""

import shutil

import pytest

from moe.console import Exit
from moe.data import load
from tests.cli_helpers import outcomes, without
from tests.reproduce.helpers import edit, record, result, set_gain

#: arguments, and what the sentence on stderr has to hold
WRONG = (
    ([], "results/NAME"),
    (["STUDY", "--trial", "x"], "--trial is 'x'; expected"),
    (["STUDY", "--trial", "9"], "--trial is 9; expected a trial of tiny: 1 to 4"),
    (["STUDY", "--trial", "-1"], "--trial is -1; expected a trial of tiny: 1 to 4"),
    (["STUDY", "--data", "."], "--data is .; expected none"),  # the study is on shapes
    (["STUDY", "--data", "nowhere"], "--data is nowhere; expected"),
    (["STUDY", "--data", ""], "--data is ''; expected"),
    (["STUDY", "--save", "TAKEN.safetensors"], "TAKEN.safetensors; expected"),
    (["STUDY", "--save", "m"], "--save is m; expected"),
    (["STUDY", "--save", ""], "--save is ''; expected"),
    (["STUDY", "--save", "/nowhere/m.safetensors"], "--save is /nowhere/m.safetensors; expected"),
    (["STUDY", "--store", "warp://x"], "--store is warp://x; expected"),
)


@pytest.fixture(scope="module")
def refusals(made, tmp_path_factory):
    """What each comes to without torch, and what stands for the words that are no paths."""
    place = tmp_path_factory.mktemp("wrong")
    (place / "m.safetensors").touch()
    words = {"STUDY": str(made), "TAKEN.safetensors": str(place / "m.safetensors")}
    calls = {tuple(arguments): tuple(words.get(word, word) for word in arguments) for arguments, _ in WRONG}
    found = outcomes("study.reproduce.__main__", calls.values(), without(place, "torch"))
    return {arguments: found[call] for arguments, call in calls.items()}, words


class TestUsage:
    @pytest.mark.parametrize(("arguments", "part"), WRONG, ids=[part for _, part in WRONG])
    def test_a_wrong_option_is_refused_in_one_sentence_without_torch(self, refusals, arguments, part):
        found, words = refusals
        code, out, err, seconds = found[tuple(arguments)]
        assert (code, out) == (Exit.USAGE, "")
        assert part.replace("TAKEN.safetensors", words["TAKEN.safetensors"]) in err
        assert len(err.splitlines()) == 1
        assert seconds < 5

    def test_the_version_is_printed(self, command):
        code, out, _ = command("--version")
        assert (code, out.split()[0]) == (0, "moe-study")

    def test_ctrl_c_has_the_exit_code_of_a_command_that_cannot_be_resumed(self, made, command, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("study.reproduce.__main__.find", interrupt)
        assert command(made).code == Exit.CTRL_C


def damaged(change, part, *arguments):
    return pytest.param(change, part, arguments, id=part)


@pytest.mark.parametrize(
    ("change", "part", "arguments"),
    [
        damaged(shutil.rmtree, "holds no study", "--trial", 1),
        damaged(lambda f: (f / "study.json").write_text("no JSON"), "study.json is damaged"),
        damaged(lambda f: (f / "study.json").write_text("[]"), "study.json is damaged (it is"),
        damaged(
            lambda f: (f / "study.json").unlink() or (f / "study.json").mkdir(), "study.json is damaged (it is a folder"
        ),
        damaged(lambda f: record(f).write_text("no JSON"), "0001.json is damaged", "--trial", 1),
        damaged(lambda f: edit(record(f), "result", "score", "gain", to="x"), "gain is 'x'; expected", "--trial", 1),
        damaged(lambda f: edit(record(f), "result", "score", "gain", to=0.9), "gain is 0.9; expected", "--trial", 1),
        damaged(lambda f: edit(record(f), "result", "stages", to=3), "stages is 3; expected", "--trial", 1),
        damaged(lambda f: edit(record(f), "result", "score", to={}), "result.score.gain is missing", "--trial", 1),
        damaged(lambda f: [path.unlink() for path in (record(f), record(f, 2))], "no complete trial"),
        damaged(lambda f: edit(record(f), "started", to="2025-06-01T00:00:00Z"), "no run that began before trial 1"),
        damaged(lambda f: None, "trial 3 failed", "--trial", 3),
        damaged(lambda f: None, "study.run --resume --name tiny --results /", "--trial", 4),
        damaged(lambda f: edit(f / "study.json", "study", "data_folder", to="else/where"), "else/where, which is not"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_sentence_and_exit_code_4(folder, change, part, arguments, command):
    set_gain(folder, 1, 0.9 - result(folder).score.baseline_accuracy)  # the best trial
    change(folder)
    code, out, err = command(folder, *arguments)
    assert (code, out) == (Exit.ENVIRONMENT, "")
    assert part in err
    assert len(err.splitlines()) == 1


def test_a_path_that_is_too_long_is_one_sentence_and_exit_code_4(command):
    code, _, err = command("x" * 5000)
    assert (code, len(err.splitlines())) == (Exit.ENVIRONMENT, 1)


def test_other_data_are_refused_before_training(folder, command):
    edit(folder / "study.json", "study", "data", to="0" * 64)
    for number in (1, 2):
        edit(record(folder, number), "result", "data", to="0" * 64)
    code, out, err = command(folder, "--trial", "1")
    assert (code, out) == (Exit.ENVIRONMENT, "")
    assert load("shapes").fingerprint[:12] in err
    assert "0" * 12 in err
    assert "--data" in err
