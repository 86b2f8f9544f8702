import time

import pytest

from study.search.ledger import Ledger
from study.search.progress import Progress, showing
from study.search.trial import EpochReport
from tests.study_helpers import a_record, a_result, a_study

POINT = {"epochs": 1, "use_large_experts": 0}


def report(stage, epoch, epochs):
    metrics = dict.fromkeys(("loss", "accuracy", "validation_loss", "validation_accuracy", "seconds"), 0.5)
    return EpochReport(**metrics, stage=stage, epoch=epoch, epochs=epochs, reused=False)


def partly_reused(config, trained, reused):
    result = a_result(0.03, config)
    return result.replace(totals=result.totals.replace(epochs_trained=trained, epochs_reused=reused))


@pytest.fixture
def ledger():
    return Ledger(a_study(), [a_record(1, 0.03)], lambda record: None)


@pytest.fixture
def lines(ledger, capsys):
    """The plain lines of two trials, of which one is complete after a minute and one fails."""
    progress = Progress(ledger, terminal=False, began=time.monotonic() - 60)
    first, second = ledger.start(POINT), ledger.start(POINT)
    progress.started(first)
    progress.started(second)
    ledger.complete(first.trial, a_result(0.02, first.config))
    progress.ended(ledger.records[first.trial])
    ledger.fail(second.trial, "the loss is nan")
    progress.ended(ledger.records[second.trial])
    return dict(zip(("started", "other", "ended", "failed"), capsys.readouterr().out.splitlines(), strict=True))


def test_the_line_of_a_start_has_the_searched_fields_and_the_seed(lines):
    assert lines["started"] == "trial 2 started: epochs 2, use_large_experts False, seed 0"


def test_the_line_of_an_end_has_the_gain_the_accuracies_and_the_time(lines):
    trial, study = lines["ended"].split(" | ")
    assert trial == "trial 2: gain +2.00 ± 1.00 points, mixture 52.0%, baseline 50.0%, 60 s"
    assert study.startswith("phase search: 2 of 5 trials done")


def test_the_line_of_an_end_has_the_best_trial_of_all_runs(lines):
    assert "best gain +3.00 ± 1.00 points (trial 1)" in lines["ended"]


def test_the_line_of_an_end_has_the_time_left(lines):
    assert lines["ended"].endswith("about 3 min left")  # three are missing, one took a minute


def test_the_line_of_a_failure_has_its_reason(lines):
    assert lines["failed"] == "trial 3 failed: the loss is nan"


def test_a_terminal_shows_stage_and_epoch_of_each_running_trial_and_no_lines(ledger, capsys):
    progress = Progress(ledger, terminal=True)
    record = ledger.start(POINT)
    progress.started(record)
    progress.progressed(record.trial, report("gate", 2, 4))
    assert progress.panel().splitlines() == [
        "phase search: 1 of 5 trials done, best gain +3.00 ± 1.00 points (trial 1)",
        "  trial 2: gate, epoch 2 of at most 4 | epochs 2, use_large_experts False, seed 0",
    ]
    with showing(progress):
        pass
    assert "gate, epoch 2 of at most 4" in capsys.readouterr().out


def test_a_warning_of_several_workers_is_printed_once(ledger, capsys):
    progress = Progress(ledger, terminal=False)
    for sentence in ("the store is full", "the store is full", "another"):
        progress.warned(sentence)
    assert capsys.readouterr().out.splitlines() == ["warning: the store is full", "warning: another"]


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
    progress.last_line[record.trial] -= 31
    progress.progressed(record.trial, report("gate", 2, 4))
    assert capsys.readouterr().out.splitlines()[1:] == ["trial 2: gate, epoch 2 of at most 4"]
