import os

import pytest

from study.analyze.tables import write_all
from study.folder import Folder
from study.search.ledger import Ledger, Verdict
from study.study import LOST
from tests.study_helpers import a_record, a_result, a_study

POINT = {"epochs": 0, "use_large_experts": 0}
OTHER = {"epochs": 1, "use_large_experts": 0}


@pytest.fixture
def kept():
    return []


def a_ledger(kept, *records, **changes):
    return Ledger(a_study(**changes), records, kept.append)


def test_a_trial_is_kept_when_it_starts_and_again_when_it_ends(kept):
    ledger = a_ledger(kept)
    number = ledger.start(POINT, 0).trial
    ledger.complete(number, a_result(0.02))
    assert [(record.trial, record.state) for record in kept] == [(1, "running"), (1, "complete")]
    assert kept[0].ended is None
    assert kept[1].value("gain") == 0.02


def test_numbers_go_on_after_those_recorded(kept):
    assert a_ledger(kept, a_record(7)).start(POINT, 0).trial == 8


def test_all_configs_share_one_list_of_seeds_and_the_first_trial_has_the_first(kept):
    ledger = a_ledger(kept, seed=3)
    seeds = [ledger.start(point, replicate).config["seed"] for point in (POINT, OTHER) for replicate in (0, 1)]
    assert seeds == [3000, 3001, 3000, 3001]


def test_it_launches_until_those_complete_and_running_are_enough(kept):
    ledger = a_ledger(kept, a_record(1), trials=3)
    verdicts = []
    for _ in range(2):
        verdicts.append(ledger.verdict())
        ledger.start(OTHER, 0)
    verdicts.append(ledger.verdict())
    ledger.fail(2, "out of luck")
    verdicts.append(ledger.verdict())
    ledger.start(OTHER, 0)
    ledger.complete(3, a_result(0))
    ledger.complete(4, a_result(0))
    verdicts.append(ledger.verdict())
    assert verdicts == [Verdict.LAUNCH, Verdict.LAUNCH, Verdict.WAIT, Verdict.LAUNCH, Verdict.STOP]


@pytest.mark.parametrize(("trials", "most"), [(1, 3), (15, 3), (50, 10), (200, 40)])
def test_too_many_failures_end_it(kept, trials, most):
    ledger = a_ledger(kept, trials=trials)
    for _ in range(most):
        assert ledger.verdict() is Verdict.LAUNCH
        ledger.fail(ledger.start(POINT, 0).trial, "out of luck")
    assert ledger.verdict() is Verdict.STOP
    assert ledger.hopeless


def test_failures_of_earlier_runs_do_not_count_against_a_resume(kept):
    ledger = a_ledger(kept, *(a_record(n, state="failed") for n in range(1, 9)))
    assert ledger.verdict() is Verdict.LAUNCH


def test_what_ended_is_counted_over_all_runs_and_the_best_is_kept(kept):
    ledger = a_ledger(kept, a_record(1, 0.02), a_record(2, state="failed"), a_record(3, state="running"))
    assert (ledger.ended("complete"), ledger.ended("failed"), ledger.best.trial) == (1, 1, 1)
    ledger.restart(ledger.orphans[0])
    for trial, gain in ((3, 0.03), (ledger.start(POINT, 1).trial, 0.01)):
        ledger.complete(trial, a_result(gain))
    ledger.fail(ledger.start(POINT, 2).trial, "out of luck")
    assert (ledger.ended("complete"), ledger.ended("failed"), ledger.best.trial) == (3, 2, 3)
    assert ledger.best.value("gain") == 0.03
    assert a_ledger(kept).best is None


def test_an_error_that_names_a_file_in_no_encoding_leaves_a_study_that_has_its_tables(kept, tmp_path):
    ledger = a_ledger(kept)
    ledger.fail(ledger.start(POINT, 0).trial, f"cannot read {os.fsdecode(b'photo-' + bytes([255]))}")
    write_all(Folder(tmp_path), ledger.study, kept[-1:])
    assert r"cannot read photo-\udcff" in (tmp_path / "summary.md").read_text("utf-8")


def test_a_closed_study_launches_nothing(kept):
    ledger = a_ledger(kept)
    ledger.closed = True
    assert ledger.verdict() is Verdict.STOP


def test_what_is_known_of_a_point_is_the_mean_of_its_complete_trials(kept):
    ledger = a_ledger(kept, a_record(1, 0.01), a_record(2, 0.03, replicate=1), a_record(3, state="failed"))
    assert ledger.known(POINT) == pytest.approx(0.02)
    assert ledger.known(OTHER) is None
    assert ledger.next_replicate(POINT) == 2
    assert ledger.next_replicate(OTHER) == 0


def test_a_trial_that_failed_of_itself_would_fail_again_so_the_next_seed_is_tried(kept):
    ledger = a_ledger(kept, a_record(1, state="failed"))
    assert ledger.taken(POINT)
    assert ledger.next_replicate(POINT) == 1


def test_a_trial_whose_worker_was_lost_is_tried_again_with_its_seed(kept):
    ledger = a_ledger(kept)
    ledger.fail(ledger.start(POINT, 0).trial, LOST)
    assert not ledger.taken(POINT)
    assert ledger.next_replicate(POINT) == 0


def test_a_space_is_exhausted_when_every_point_is_complete_or_running(kept):
    ledger = a_ledger(kept)
    points = list(ledger.study.space.points())
    numbers = [ledger.start(point, 0).trial for point in points]
    assert ledger.exhausted()
    ledger.fail(numbers[-1], "out of luck")
    assert ledger.exhausted()
    ledger.fail(numbers[-1], LOST)
    assert not ledger.exhausted()


def test_a_trial_that_an_earlier_run_had_not_ended_keeps_its_number_and_seed(kept):
    orphan = a_record(4, state="running", replicate=2)
    ledger = a_ledger(kept, a_record(1), orphan)
    assert ledger.orphans == [orphan]
    again = ledger.restart(orphan)
    assert (again.trial, again.config, again.replicate) == (4, orphan.config, 2)
    assert ledger.orphans == []
    assert ledger.running == [again]
