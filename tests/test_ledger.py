import os

import pytest

from study.analyze.tables import write_all
from study.files import seal, unseal
from study.folder import Folder
from study.search.ledger import Asked, Ledger, Verdict
from study.search.samplers import grid_order
from study.select.refine import Replicate
from study.space import PRESETS, parse
from study.study import LOST, Record
from tests.study_helpers import SPACE, a_record, a_result, a_study

POINT = {"epochs": 0, "use_large_experts": 0}
OTHER = {"epochs": 1, "use_large_experts": 0}
ORDER = [3, 0, 5, 4, 2, 1]


@pytest.fixture
def saved():
    return []


def grid(ledger, order, trials):
    """The positions of so many trials that a grid starts, each of which completes."""
    started = []
    for _ in range(trials):
        record = ledger.start(ledger.next_of_grid(order))
        started.append(ledger.study.space.position(ledger.point(record)))
        complete(ledger, record.trial, 0.01)
    return started


def complete(ledger, number, gain):
    ledger.complete(number, a_result(gain, ledger.records[number].config))


def a_ledger(saved, *records, **changes):
    return Ledger(a_study(**changes), records, saved.append)


def test_a_trial_is_saved_when_it_starts_and_again_when_it_ends(saved):
    ledger = a_ledger(saved)
    complete(ledger, ledger.start(POINT).trial, 0.02)
    assert [(record.trial, record.state) for record in saved] == [(1, "running"), (1, "complete")]
    assert saved[0].ended is None
    assert saved[1].done.gain == 0.02


def test_numbers_go_on_after_those_recorded(saved):
    assert a_ledger(saved, a_record(7)).start(POINT).trial == 8


def test_all_configs_share_one_list_of_seeds_and_the_first_trial_has_the_first(saved):
    ledger = a_ledger(saved, seed=3)
    seeds = [ledger.start(point).config.seed for point in (POINT, OTHER) for _ in range(2)]
    assert seeds == [3000, 3001, 3000, 3001]


def test_it_launches_until_those_complete_and_running_are_enough(saved):
    ledger = a_ledger(saved, a_record(1), trials=3)
    verdicts = []
    for _ in range(2):
        verdicts.append(ledger.verdict())
        ledger.start(OTHER)
    verdicts.append(ledger.verdict())
    ledger.fail(2, "out of luck")
    verdicts.append(ledger.verdict())
    ledger.start(OTHER)
    complete(ledger, 3, 0)
    complete(ledger, 4, 0)
    verdicts.append(ledger.verdict())
    assert verdicts == [Verdict.LAUNCH, Verdict.LAUNCH, Verdict.WAIT, Verdict.LAUNCH, Verdict.STOP]


@pytest.mark.parametrize(("trials", "most"), [(1, 3), (15, 3), (50, 10), (200, 40)])
def test_too_many_failed_trials_end_it(saved, trials, most):
    ledger = a_ledger(saved, trials=trials)
    for _ in range(most):
        assert ledger.verdict() is Verdict.LAUNCH
        ledger.fail(ledger.start(POINT).trial, "out of luck")
    assert ledger.verdict() is Verdict.STOP
    assert ledger.too_many_failed


def test_failures_of_earlier_runs_do_not_count_against_a_resume(saved):
    ledger = a_ledger(saved, *(a_record(n, state="failed") for n in range(1, 9)))
    assert ledger.verdict() is Verdict.LAUNCH


def test_what_ended_is_counted_over_all_runs_and_the_best_is_saved(saved):
    ledger = a_ledger(saved, a_record(1, 0.02), a_record(2, state="failed"), a_record(3, state="running"))
    assert (ledger.ended("complete"), ledger.ended("failed"), ledger.best.trial) == (1, 1, 1)
    ledger.restart(ledger.interrupted[0])
    for trial, gain in ((3, 0.03), (ledger.start(POINT).trial, 0.01)):
        complete(ledger, trial, gain)
    ledger.fail(ledger.start(POINT).trial, "out of luck")
    assert (ledger.ended("complete"), ledger.ended("failed"), ledger.best.trial) == (3, 2, 3)
    assert ledger.best.done.gain == 0.03
    assert a_ledger(saved).best is None


def test_an_error_that_names_a_file_in_no_encoding_leaves_a_study_that_has_its_tables(saved, tmp_path):
    ledger = a_ledger(saved)
    ledger.fail(ledger.start(POINT).trial, f"cannot read {os.fsdecode(b'photo-' + bytes([255]))}")
    write_all(Folder(tmp_path), ledger.study, saved[-1:])
    assert r"cannot read photo-\\udcff" in (tmp_path / "summary.md").read_text("utf-8")


def test_a_traceback_that_names_such_a_file_leaves_a_record_that_can_be_read(saved, tmp_path):
    ledger = a_ledger(saved)
    ledger.fail(ledger.start(POINT).trial, "cannot read", f"Traceback: {os.fsdecode(bytes([255]))}")
    assert unseal(Record, seal(saved[-1].as_json()).encode()) == saved[-1]


def test_what_refining_wants_is_found_again_if_a_trial_ended_meanwhile(saved, monkeypatch):
    """The panel's thread looks as well: what it found before must not be what the study waits for."""
    ledger, found = a_ledger(saved, *(a_record(n) for n in range(1, 6))), []

    def replicates(study, records):
        found.append(len(records))
        if len(found) == 1:
            complete(ledger, ledger.start(OTHER).trial, 0)
        return [Replicate(POINT, 250)] * (len(found) == 1)

    monkeypatch.setattr("study.search.ledger.replicates", replicates)
    assert len(ledger.wanted()) == 1
    assert ledger.wanted() == ledger.wanted() == []
    assert found == [5, 6]


def test_a_closed_study_launches_nothing(saved):
    ledger = a_ledger(saved)
    ledger.closed = True
    assert ledger.verdict() is Verdict.STOP


def test_the_objective_of_a_point_is_the_mean_of_its_complete_trials(saved):
    ledger = a_ledger(saved, a_record(1, 0.01), a_record(2, 0.03, replicate=1), a_record(3, state="failed"))
    assert ledger.mean_objective(POINT) == pytest.approx(0.02)
    assert ledger.mean_objective(OTHER) is None
    assert ledger.next_replicate(POINT) == 2
    assert ledger.next_replicate(OTHER) == 0


def test_a_trial_that_failed_of_itself_would_fail_again_so_the_next_seed_is_tried(saved):
    ledger = a_ledger(saved, a_record(1, state="failed"))
    assert ledger.tried(POINT)
    assert ledger.next_replicate(POINT) == 1


def test_a_trial_whose_worker_was_lost_is_tried_again_with_its_seed(saved):
    ledger = a_ledger(saved)
    ledger.fail(ledger.start(POINT).trial, LOST)
    assert not ledger.tried(POINT)
    assert ledger.next_replicate(POINT) == 0


def test_a_space_is_exhausted_when_every_point_is_complete_or_running(saved):
    ledger = a_ledger(saved)
    points = list(ledger.study.space.points())
    numbers = [ledger.start(point).trial for point in points]
    assert ledger.exhausted()
    ledger.fail(numbers[-1], "out of luck")
    assert ledger.exhausted()
    ledger.fail(numbers[-1], LOST)
    assert not ledger.exhausted()


def test_a_trial_that_an_earlier_run_had_not_ended_keeps_its_number_and_seed(saved):
    interrupted = a_record(4, state="running", replicate=2)
    ledger = a_ledger(saved, a_record(1), interrupted)
    assert ledger.interrupted == [interrupted]
    again = ledger.restart(interrupted)
    assert (again.trial, again.config, again.replicate) == (4, interrupted.config, 2)
    assert ledger.interrupted == []
    assert ledger.records[4] == again


def test_so_many_failed_trials_end_it_as_were_asked_for():
    ledger = Ledger(a_study(trials=50), [], lambda record: None, max_failures=2)
    verdicts = []
    for _ in range(2):
        ledger.fail(ledger.start(POINT).trial, "out of luck")
        verdicts.append(ledger.verdict())
    assert verdicts == [Verdict.LAUNCH, Verdict.STOP]
    assert Ledger(a_study(trials=50), [], lambda record: None).max_failures == 10


def test_a_trial_that_is_asked_for_is_the_next_replicate_of_its_point_and_the_only_one(saved):
    ledger = Asked(POINT, a_study(trials=1), [a_record(1)], saved.append)
    assert (ledger.verdict(), ledger.missing) == (Verdict.LAUNCH, 1)
    record = ledger.next_planned()
    assert (record.trial, record.phase, record.replicate, record.config.seed) == (2, "ask", 1, 1)
    assert (ledger.verdict(), ledger.missing) == (Verdict.WAIT, 1)
    complete(ledger, 2, 0.02)
    assert (ledger.verdict(), ledger.missing) == (Verdict.STOP, 0)


def test_a_trial_that_was_asked_for_and_interrupted_starts_again_with_its_number_and_seed(saved):
    left = a_record(2, state="running", replicate=1, phase="ask")
    ledger = Asked(POINT, a_study(), [a_record(1), left], saved.append)
    assert ledger.next_planned().replace(started=left.started) == left


def test_a_trial_that_was_asked_for_is_none_of_the_search_nor_of_refining(saved):
    asked = [a_record(1), a_record(2, epochs=2, phase="ask")]
    ledger = a_ledger(saved, *asked, trials=2, seeds=2)
    assert ledger.missing == 3
    assert [ledger.next_planned().config.epochs, ledger.next_planned()] == [1, None]  # not the other seed of 2 epochs
    leaders = [a_record(1, 0.02), a_record(2, 0.01, epochs=2)]
    for each in a_ledger(saved, *leaders, trials=2, refine=2).wanted():
        gain, epochs = ((0.02, 1), (0.01, 2))[each.point["epochs"]]
        leaders.append(a_record(len(leaders) + 1, gain, replicate=each.replicate, phase="refine", epochs=epochs))
    lucky = [a_record(90 + n, 0.4, replicate=n, epochs=2, phase="ask") for n in range(1, 4)]
    before, after = (a_ledger(saved, *trials, trials=2, refine=2).wanted() for trials in (leaders, leaders + lucky))
    assert before == after


def test_a_grid_takes_the_default_first_and_every_point_once_in_each_round_and_in_the_same_order(saved):
    rest = [3, 5, 4, 2, 1]
    assert grid(a_ledger(saved), ORDER, 18) == [0, *rest, *ORDER, *ORDER]
    assert [record.replicate for record in saved[::2]] == [0] * 6 + [1] * 6 + [2] * 6


def test_a_grid_looks_at_the_trials_of_a_point_alone_however_many_there_are(saved, monkeypatch):
    space, looked = PRESETS["notebook"], []
    repeatable = Record.repeatable.fget
    monkeypatch.setattr(Record, "repeatable", property(lambda record: looked.append(record) or repeatable(record)))
    ledger, order, counts = a_ledger(saved, space=space), grid_order(space, 0), []
    for _ in range(2):
        grid(ledger, order, 40)
        counts.append(len(looked))
        looked.clear()
    assert counts[0] == counts[1]


def test_a_grid_over_nothing_is_one_point_over_and_over(saved):
    ledger = a_ledger(saved, space=parse("one", {"epochs": 2}))
    assert grid(ledger, grid_order(ledger.study.space, 0), 12) == [0] * 12


def test_a_grid_goes_on_in_its_order_after_a_resume(saved):
    space = PRESETS["notebook"]
    order, first = grid_order(space, 7), a_ledger(saved, space=space)
    straight = grid(a_ledger([], space=space), order, 50)
    before = grid(first, order, 20)
    assert before + grid(a_ledger(saved, *first.records.values(), space=space), order, 30) == straight


def test_a_grid_skips_points_that_are_complete_running_or_failed(saved):
    running = a_record(3, state="running", epochs=4)
    ledger = a_ledger(saved, a_record(1), a_record(2, state="failed", epochs=2, use_large_experts=True), running)
    late = ledger.start(SPACE.at(2))
    assert grid(ledger, ORDER, 3) == [5, 1, 3]
    assert [ledger.records[number].state for number in (3, late.trial)] == ["running", "running"]


@pytest.mark.parametrize("point", [POINT, SPACE.at(3)])
@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_a_grid_takes_a_point_again_whose_worker_was_lost_unless_it_is_lost_again_and_again(saved, point, times):
    ledger = a_ledger(saved)
    if point != POINT:
        ledger.start(POINT)
    for _ in range(times):
        ledger.fail(ledger.start(point).trial, LOST)
    assert (ledger.next_of_grid(ORDER) == point) == (times < 3)


def test_a_grid_takes_the_lost_seed_of_a_later_round_again(saved):
    ledger = a_ledger(saved)
    grid(ledger, ORDER, 7)
    lost = ledger.start(ledger.next_of_grid(ORDER))
    ledger.fail(lost.trial, LOST)
    again = ledger.start(ledger.next_of_grid(ORDER))
    assert again.config == lost.config


def test_trials_that_were_asked_for_or_refine_are_none_of_a_grid(saved):
    ledger = a_ledger(saved, a_record(1, phase="ask"), a_record(2, phase="refine"), trials=20)
    assert grid(ledger, ORDER, 6) == [0, 3, 5, 4, 2, 1]
