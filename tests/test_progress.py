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


def test_plain_lines_tell_of_starts_ends_failures_the_best_and_the_time_left(ledger, capsys):
    progress = Progress(ledger, terminal=False, began=time.monotonic() - 60)
    first, second = ledger.start(POINT), ledger.start(POINT)
    progress.started(first)
    progress.started(second)
    ledger.complete(first.trial, a_result(0.02, first.config))
    progress.ended(ledger.records[first.trial])
    ledger.fail(second.trial, "the loss is nan")
    progress.ended(ledger.records[second.trial])
    started, _, ended, failed = capsys.readouterr().out.splitlines()
    assert started == "trial 2 started: epochs 2, use_large_experts False, seed 0"
    assert ended.startswith(
        "trial 2: gain +2.00 ± 1.00 points, mixture 52.0%, baseline 50.0%, 60 s | 2 of 5 trials done"
    )
    assert "best gain +3.00 ± 1.00 points (trial 1)" in ended
    assert ended.endswith("about 3 min left")  # three are missing, one took a minute
    assert failed == "trial 3 failed: the loss is nan"


def test_a_terminal_shows_stage_and_epoch_of_each_running_trial_and_no_lines(ledger, capsys):
    progress = Progress(ledger, terminal=True)
    record = ledger.start(POINT)
    progress.started(record)
    progress.progressed(record.trial, report("gate", 2, 4))
    assert progress.panel().splitlines() == [
        "1 of 5 trials done, best gain +3.00 ± 1.00 points (trial 1)",
        "  trial 2: gate, epoch 2 of at most 4 | epochs 2, use_large_experts False, seed 0",
    ]
    with showing(progress):
        pass
    assert "gate, epoch 2 of at most 4" in capsys.readouterr().out


def test_what_several_workers_warn_of_is_said_once(ledger, capsys):
    progress = Progress(ledger, terminal=False)
    for sentence in ("the store is full", "the store is full", "another"):
        progress.warned(sentence)
    assert capsys.readouterr().out.splitlines() == ["warning: the store is full", "warning: another"]


def test_a_trial_says_how_much_of_it_came_from_the_store(ledger, capsys):
    progress = Progress(ledger, terminal=False)
    record = ledger.start(POINT)
    progress.started(record)
    ledger.complete(record.trial, partly_reused(record.config, 3, 7))
    progress.ended(ledger.records[record.trial])
    assert "(7 of 10 epochs from the store)" in capsys.readouterr().out


def test_a_long_trial_says_now_and_then_where_it_is(ledger, capsys):
    progress = Progress(ledger, terminal=False)
    record = ledger.start(POINT)
    progress.started(record)
    progress.progressed(record.trial, report("gate", 1, 4))
    progress.last_line[record.trial] -= 31
    progress.progressed(record.trial, report("gate", 2, 4))
    assert capsys.readouterr().out.splitlines()[1:] == ["trial 2: gate, epoch 2 of at most 4"]
