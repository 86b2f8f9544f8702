import io
import os
import re

import pytest
from rich.console import Console

from moe.config import Config
from study.search.ledger import Ledger
from study.search.progress import Progress, short, showing
from study.search.trial import EpochReport
from study.space import PRESETS
from study.space import parse as parse_space
from tests.study_helpers import a_record, a_result, a_study, references

POINT = {"epochs": 1, "use_large_experts": 0}


TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")


def report(stage, epoch, epochs, reused=False):
    metrics = dict.fromkeys(("loss", "accuracy", "validation_loss", "validation_accuracy", "seconds"), 0.5)
    return EpochReport(**metrics, stage=stage, epoch=epoch, epochs=epochs, reused=reused)


def printed(capsys):
    """The plain lines, without the time that each begins with."""
    lines = capsys.readouterr().out.splitlines()
    assert all(TIME.match(line) for line in lines)
    return [TIME.sub("", line) for line in lines]


def panel(progress, width):
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as shown:
        console.print(progress.panel())
    return [line.rstrip() for line in shown.get().splitlines()]


def partly_reused(config, trained, reused):
    result = a_result(0.03, config)
    return result.replace(totals=result.totals.replace(epochs_trained=trained, epochs_reused=reused))


@pytest.fixture
def ledger():
    return Ledger(a_study(), [a_record(1, 0.03)], lambda record: None)


@pytest.fixture
def lines(ledger, capsys):
    """The plain lines of two trials, of which one is complete after a minute and one fails."""
    progress = Progress(ledger, terminal=False)
    first, second = ledger.start(POINT), ledger.start(POINT)
    progress.started(first)
    progress.started(second)
    progress.running[first.trial].began -= 60
    ledger.complete(first.trial, a_result(0.02, first.config))
    progress.ended(ledger.records[first.trial])
    ledger.fail(second.trial, "the loss is nan")
    progress.ended(ledger.records[second.trial])
    return dict(zip(("started", "other", "ended", "failed"), printed(capsys), strict=True))


def test_the_line_of_a_start_has_the_searched_fields_and_the_seed(lines):
    assert lines["started"] == "trial 2 started: e=2"


def test_the_line_of_an_end_has_the_gain_the_accuracies_and_the_time(lines):
    trial, config, study = lines["ended"].split(" | ")
    assert config == "e=2"
    assert trial == "trial 2: gain +2.00 ± 1.00 points, mixture 52.0%, baseline 50.0%, 60 s"
    assert study.startswith("phase search: 2 of 5 trials done")


def test_the_line_of_an_end_has_the_best_trial_of_all_runs(lines):
    assert "best gain +3.00 ± 1.00 points (trial 1), about" in lines["ended"]


def test_the_line_of_an_end_has_the_time_left(lines):
    assert lines["ended"].endswith(
        "about 90 s left"
    )  # three are missing, of which one runs; one took a minute, two at a time


def test_the_line_of_a_failure_has_its_reason_and_its_config(lines):
    assert lines["failed"] == "trial 3 failed: the loss is nan | e=2 seed=1"


def test_a_terminal_shows_where_each_running_trial_is_in_any_width(ledger, capsys):
    ledger.study = ledger.study.replace(reference=references(0.55))
    progress = Progress(ledger, terminal=True)
    assert panel(progress, 80)[0] == "Ray starts"
    record, other = ledger.start(POINT), ledger.start({"epochs": 2, "use_large_experts": 1})
    progress.started(record)
    progress.started(other)
    progress.progressed(record.trial, report("gate", 2, 4))
    progress.progressed(other.trial, report("mixture", 3, 4, reused=True))
    assert panel(progress, 120) == [
        "phase search: 1 of 5 trials done, best gain +3.00 ± 1.00 points (trial 1, -2.00 over the reference)",
        "   2  gate 2/4     val 50.0%  e=2",
        "   3  mixture 3/4  val 50.0%  e=4 large: experts  (reused)",
    ]
    narrow = panel(progress, 50)
    assert max(map(len, narrow)) == 50
    assert narrow[-1].endswith("e=4 large: experts …")
    with showing(progress):
        pass
    assert "gate 2/4" in capsys.readouterr().out


def test_a_signal_is_answered_in_the_panel(ledger):
    stopping = []
    progress = Progress(ledger, terminal=True, stopping=lambda: bool(stopping))
    assert not panel(progress, 120)[0].startswith("Stopping")
    stopping.append(1)
    assert panel(progress, 120)[0].startswith("Stopping")


def test_a_short_config_names_what_is_searched():
    record = a_record(1, epochs=3, use_large_experts=True, use_large_baseline_classifier=True, replicate=2)
    assert short(record.config, PRESETS["notebook"], 2) == "e=3 n=5000 seed=2 large: experts, baseline"
    one = parse_space("one", {"use_large_experts": [False, True]})
    assert short(Config(), one) == "nothing large"
    assert short(Config(), parse_space("none", {})) == "the fixed config"


def test_references_are_announced_and_named_as_they_end(ledger):
    lines = []
    progress = Progress(ledger, terminal=False, emit=lines.append)
    for left in (2, 2, 1):  # two are launched, then one ends
        progress.referring(left)
    ledger.refer(references(0.55)[0])
    progress.referred(ledger.study.reference[0])
    assert [line.split(" ", 2)[2].split(" |")[0] for line in lines] == [
        "phase reference: 2 to train",
        "reference 1: baseline 55.0%",
    ]
    assert progress.summary() == "phase reference: 1 to train"
    progress.started(a_record(1, state="running"))
    assert "1 of 5 trials done, references to train: 1" in progress.summary()


def test_a_warning_of_several_workers_is_printed_once(ledger, capsys):
    progress = Progress(ledger, terminal=False)
    for sentence in ("the store is full", "the store is full", "another"):
        progress.warned(sentence)
    assert printed(capsys) == ["warning: the store is full", "warning: another"]


def test_the_line_of_an_end_has_the_epochs_from_the_store(ledger, capsys):
    progress = Progress(ledger, terminal=False)
    record = ledger.start(POINT)
    progress.started(record)
    ledger.complete(record.trial, partly_reused(record.config, 3, 7))
    progress.ended(ledger.records[record.trial])
    assert "(7 of 10 epochs from the store)" in capsys.readouterr().out


def test_a_long_trial_has_a_line_now_and_then(ledger, capsys):
    progress = Progress(ledger, terminal=False)
    record = ledger.start(POINT)
    progress.started(record)
    progress.progressed(record.trial, report("gate", 1, 4))
    progress.running[record.trial].line -= 31
    progress.progressed(record.trial, report("gate", 2, 4))
    assert printed(capsys)[1:] == ["trial 2: gate 2/4 | val 50.0% | e=2"]


def test_a_terminal_that_is_made_narrower_keeps_no_lines_of_the_panel(ledger, capsys, monkeypatch):
    """It wraps the lines that are on it, so that the panel begins further up."""
    width = [75]
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((width[0], 20)))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    progress = Progress(ledger, terminal=True)
    progress.started(ledger.start(POINT))
    with showing(progress):
        capsys.readouterr()
        for lines, width[0] in ((2, 75), (4, 30), (4, 30)):
            progress.emit("a line")
            assert capsys.readouterr().out.partition("a line")[0].count("\x1b[1A") == lines - 1
