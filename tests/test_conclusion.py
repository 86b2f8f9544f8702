"""How a study ends, by its records alone."""

import pytest

from moe.console import Exit
from study.conclusion import conclude, conclude_asked, conclude_finished, missing
from study.definition import Request
from study.folder import Folder
from study.options import parse
from study.study import Run
from tests.study_helpers import STARTED, a_record, a_study, references

RUN = Run(started=STARTED, command="", commit=None, versions={}, store="none")


@pytest.fixture
def request_of(tmp_path):
    """A resume, with other budgets, of a study of five trials that has two and a reference."""

    def make(**budgets):
        before = a_study(name="x", reference=references(0.5))
        folder = Folder(tmp_path / "x")
        folder.trials.mkdir(parents=True)
        folder.write_study(before, RUN)
        for number in (1, 2):
            folder.write_record(a_record(number, 0.01 * number, epochs=number))
        options = parse(["--resume", "--name", "x", "--results", str(tmp_path)])
        return Request(options=options, command="", study=before.replace(**budgets), before=before)

    return make


def test_a_resume_that_wants_no_more_trials_than_there_are_is_done(request_of, capsys):
    assert conclude_finished(request_of(trials=2)) == Exit.DONE
    printed = capsys.readouterr()
    assert "2 of 2 trials complete" in printed.out
    assert "best baseline" in printed.out  # the references are those of the folder
    assert "Continue" not in printed.err


def test_a_resume_that_wants_more_is_not_concluded(request_of):
    assert conclude_finished(request_of()) is None


def test_a_trial_that_was_asked_for_is_known_by_its_number_though_the_clock_was_set_back(request_of, capsys):
    request = request_of()
    options, folder = request.options, Folder(request.options.studies / "x")
    folder.write_record(a_record(3, 0.02, epochs=2, replicate=1, phase="ask"))
    folder.write_study(folder.read_study(), RUN.replace(started=STARTED.replace(year=2525)))
    assert conclude_asked(options, request.before, "again", 3) == Exit.DONE
    assert conclude_asked(options, request.before, "again", None) == Exit.INTERRUPTED
    assert "interrupted; the trial starts again with: again" in capsys.readouterr().err


def test_what_refining_wants_is_missing_once_the_search_is_complete():
    records = [a_record(number, 0.01 * number, epochs=number) for number in (1, 2)]
    assert missing(a_study(trials=2), records) == 0
    assert missing(a_study(trials=2, refine=1, refine_seeds=2), records) > 0
    assert missing(a_study(trials=4, refine=1), records) == 2


def test_a_terminal_shows_the_configs_in_its_width_and_the_next_commands(request_of, capsys, monkeypatch):
    monkeypatch.setattr("study.conclusion.interactive", lambda: True)
    monkeypatch.setenv("COLUMNS", "70")
    assert conclude_finished(request_of(trials=2)) == Exit.DONE
    before, after = capsys.readouterr().out.split("Everything is in")
    assert max(map(len, before.splitlines())) <= 70
    assert "|" not in before
    assert "python -m study.confirm" in after


@pytest.mark.parametrize("protocol", ["holdout", "notebook"])
def test_only_a_study_that_can_be_confirmed_is_told_so(protocol, tmp_path, capsys):
    study = a_study(name="x", trials=1, protocol=protocol)
    folder = Folder(tmp_path / "x")
    folder.trials.mkdir(parents=True)
    folder.write_study(study, RUN)
    folder.write_record(a_record(1, protocol=protocol))
    assert conclude(parse(["--results", str(tmp_path)]), study) == Exit.DONE
    assert ("python -m study.confirm" in capsys.readouterr().out) == (protocol == "holdout")
